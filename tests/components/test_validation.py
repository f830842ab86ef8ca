import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from components import validation
from components.near_duplicates import near_duplicates, perceptual_hash
from components.validation import RESULT, GateClosed
from components.validation_facts import class_facts
from components.workspace import Workspace
from synfer.config import Config, Validation
from synfer.images import load_images, write_shard
from synfer.manifest import write_manifest

STRICT = Validation(min_kept=0.5, min_agreement=0.6, max_imbalance=3.0, min_per_class=2, max_duplicates=0.02)


def check(workspace: Workspace, settings: Config, section: Validation = STRICT, *, images: Path | None = None) -> dict[str, object]:
    out = workspace.artifacts / ".validation.partial"
    out.mkdir()
    rectification, synthesis = workspace.stage("rectification"), images or workspace.stage("synthesis")
    try:
        validation.run(section, settings.common, rectification=rectification, synthesis=synthesis, out=out)
    finally:
        result: dict[str, object] = json.loads((out / RESULT).read_text(encoding="utf-8"))
        (out / RESULT).rename(workspace.artifacts / "last.json")
    return result


def test_good_data_passes_and_leaves_data_docs(rectified: pd.DataFrame, workspace: Workspace, settings: Config) -> None:
    result = check(workspace, settings)
    assert result["success"] is True
    assert result["critical"] == []
    assert "There are images at all" in {one["expectation"] for one in result["expectations"]}  # type: ignore[attr-defined]
    assert (workspace.reports / "gx" / "index.html").is_file()
    assert [path.name for path in workspace.reports.iterdir()] == ["gx"]  # nothing half-made is left


def test_the_front_page_of_data_docs_leads_to_every_suite_without_the_web(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config
) -> None:
    check(workspace, settings)
    docs = workspace.reports / "gx"
    linked = re.findall(r'<li><a href="(validations/[^"]+)">(\w+)</a>', (docs / "index.html").read_text(encoding="utf-8"))
    assert {suite for _, suite in linked} == {"manifest", "labels", "images", "classes"}
    assert all((docs / page).is_file() for page, _ in linked)


def test_a_closed_gate_names_expectation_observation_and_threshold(rectified: pd.DataFrame, workspace: Workspace, settings: Config) -> None:
    with pytest.raises(GateClosed, match=r"The label confirms the intent .*observed 0\.9\d*, wanted at least 0\.99"):
        check(workspace, settings, STRICT.model_copy(update={"min_agreement": 0.99}))
    left = json.loads((workspace.artifacts / "last.json").read_text(encoding="utf-8"))
    assert left["critical"] == ["The label confirms the intent"]
    assert (workspace.reports / "gx" / "index.html").is_file()


def test_a_warning_does_not_close_the_gate(rectified: pd.DataFrame, workspace: Workspace, settings: Config) -> None:
    rectified["caption"] = ""
    write_manifest(rectified, workspace.stage("rectification"))
    result = check(workspace, settings)
    assert result["success"] is True
    assert result["warning"] == ["Every image has a caption"]


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [("posterior", np.full(8, 0.2), "Posteriors sum to one"), ("seed", 1, "Every image has a seed of its own")],
)
def test_a_broken_manifest_closes_the_gate(
    column: str, value: object, named: str, rectified: pd.DataFrame, workspace: Workspace, settings: Config
) -> None:
    rectified[column] = [value] * len(rectified)
    write_manifest(rectified, workspace.stage("rectification"))
    with pytest.raises(GateClosed, match=named):
        check(workspace, settings)


def test_broken_missing_and_exchanged_images_close_the_gate(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config, tmp_path: Path
) -> None:
    images = tmp_path / "broken"
    rows = pq.read_table(workspace.stage("synthesis") / "images-00000.parquet").to_pylist()
    data = [row["image"]["bytes"] for row in rows]
    data[3] = b"no image"
    data[4] = data[5]
    write_shard(images, 0, [row["sample_id"] for row in rows], data)
    with pytest.raises(GateClosed, match=r"Every row has an image .*30 of 70 do not.*and 2 more"):
        check(workspace, settings, images=images)
    left = json.loads((workspace.artifacts / "last.json").read_text(encoding="utf-8"))
    assert left["critical"] == ["Every row has an image", "Every image can be decoded", "Every image is the one of its hash"]


def test_a_noisy_copy_is_a_near_duplicate_and_another_face_is_not(generated: Path) -> None:
    faces = load_images(generated, [f"syn-{index:04d}" for index in range(20)], size=64)
    noise = np.random.default_rng(0).normal(0, 4, faces[7].shape)
    faces = np.concatenate([faces, np.clip(faces[7:8] + noise, 0, 255).astype(np.uint8)])
    hashes = pd.Series([perceptual_hash(face) for face in faces])
    assert near_duplicates(hashes).tolist() == [False] * 20 + [True]
    hashes.iloc[7] = None  # an image that cannot be read
    assert not near_duplicates(hashes).any()


def test_an_empty_class_counts_as_empty(rectified: pd.DataFrame) -> None:
    facts = class_facts(rectified[rectified["label"] != "fear"], ("fear", "anger"))
    assert facts["images"].tolist()[0] == 0
    assert facts["ratio"].max() == facts["images"].max()
