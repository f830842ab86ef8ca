import hashlib
import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from components import release
from components.record import Record
from components.validation import GateClosed
from components.workspace import Workspace
from synfer.config import Config
from synfer.files import sha256, write_json
from synfer.images import is_marked_generated, iter_images
from synfer.manifest import ManifestError, read_manifest

PASSED = {"expectation": "There are images", "success": True, "observed": "70", "wanted": "at least 1"}
GOOD = {"success": True, "critical": [], "warning": [], "expectations": [PASSED]}


def publish(workspace: Workspace, settings: Config, *, result: dict[str, object] = GOOD, synthesis: Path | None = None) -> Path:
    folder = workspace.stage("validation")
    write_json(folder / "result.json", result)
    Record(folder).save()
    out = workspace.artifacts / ".release.partial"
    out.mkdir(exist_ok=True)
    release.run(
        settings.release, settings.common, rectification=workspace.stage("rectification"), validation=folder, out=out,
        synthesis=synthesis or workspace.stage("synthesis"),
    )  # fmt: skip
    return workspace.data / "synthetic" / settings.release.name


def test_a_release_is_a_dataset_folder_with_marked_images_and_all_columns(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config
) -> None:
    folder = publish(workspace, settings)
    shards = pd.concat(map(pd.read_parquet, sorted(folder.glob("images-*.parquet"))))
    assert set(rectified.columns) | {"image"} == set(shards.columns)
    assert shards["label"].tolist() == rectified["label"].tolist()
    for row in shards.itertuples():
        assert hashlib.sha256(row.image["bytes"]).hexdigest() == row.sha256
        assert is_marked_generated(row.image["bytes"])
    assert len(list(iter_images(folder))) == len(read_manifest(folder)) == len(rectified)


def test_the_checksums_and_the_code_of_the_card_work(
    rectified: pd.DataFrame, in_workspace: Workspace, settings: Config
) -> None:
    folder = publish(in_workspace, settings)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    names: dict[str, pd.DataFrame] = {}
    exec(re.search(r"```python\n(.*?)```", card, re.S)[1], names)  # type: ignore[index]
    assert len(names["train"]) == (rectified["weight"] > 0).sum()
    assert settings.release.license in card
    assert "63 of the 70 images" in card
    left = json.loads((in_workspace.artifacts / ".release.partial" / "release.json").read_text(encoding="utf-8"))
    assert left["sha256"] == sha256(folder)
    assert left["path"] == "data/synthetic/smoke"


def test_data_that_did_not_pass_is_not_released(rectified: pd.DataFrame, workspace: Workspace, settings: Config) -> None:
    with pytest.raises(GateClosed, match="did not pass: Enough images"):
        publish(workspace, settings, result=GOOD | {"success": False, "critical": ["Enough images"]})
    assert not workspace.data.exists()


def test_a_release_that_fails_leaves_the_old_one_whole_and_nothing_else(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config, generated: Path, tmp_path: Path
) -> None:
    folder = publish(workspace, settings)
    before = sha256(folder)
    half = tmp_path / "half"
    half.mkdir()
    pq.write_table(pq.read_table(generated / "images-00000.parquet"), half / "images-00000.parquet")
    with pytest.raises(ManifestError, match="holds 40 of the 70 images"):
        publish(workspace, settings, synthesis=half)
    assert sha256(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_same_data_gives_the_same_release(rectified: pd.DataFrame, workspace: Workspace, settings: Config) -> None:
    first = sha256(publish(workspace, settings))
    assert sha256(publish(workspace, settings)) == first
