"""The registry: a dataset becomes an entry with its digest, others stay, a refusal leaves the file as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from components.data_registry import DataRegistryError, track
from components.lineage import data_digests
from components.workspace import Workspace


def dataset(workspace: Workspace, name: str, text: str) -> Path:
    folder = workspace.data / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.parquet").write_text(text)
    return folder


def test_a_dataset_is_entered_and_renewed_beside_the_others(workspace: Workspace) -> None:
    faces = track(workspace, dataset(workspace, "faces", "faces"))
    first = track(workspace, dataset(workspace, "synthetic/laptop", "first"))
    second = track(workspace, dataset(workspace, "synthetic/laptop", "second"))
    assert first != second
    assert data_digests(workspace.root) == {"data/faces": faces, "data/synthetic/laptop": second}
    assert not any("remote" in out for out in yaml.safe_load((workspace.root / "data.dvc").read_text())["outs"])


def test_a_refusal_is_told_and_leaves_the_registry_as_it_was(workspace: Workspace) -> None:
    track(workspace, dataset(workspace, "faces", "faces"))
    before = yaml.safe_load((workspace.root / "data.dvc").read_text())
    with pytest.raises(DataRegistryError, match=r"dvc could not commit data/nowhere: .*does not exist"):
        track(workspace, workspace.data / "nowhere")
    assert yaml.safe_load((workspace.root / "data.dvc").read_text()) == before
