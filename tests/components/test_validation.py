import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from components import drift, validation
from components.drift import DriftError
from components.near_duplicates import near_duplicates, perceptual_hash
from components.record import read_tables
from components.validation import RESULT, GateClosed
from components.validation_facts import asked_classes, class_facts
from components.workspace import Workspace
from synfer.config import Config, Validation
from synfer.errors import SynferError
from synfer.images import load_images, write_shard
from synfer.manifest import write_manifest
from synfer.vocabulary import DEFAULT_EXPRESSIONS

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
    assert {suite for _, suite in linked} == {"schema", "manifest", "labels", "images", "classes"}
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


def test_a_manifest_that_lacks_a_column_closes_the_gate_before_anything_else(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config
) -> None:
    write_manifest(rectified.drop(columns="posterior"), workspace.stage("rectification"))
    with pytest.raises(GateClosed, match=r"Every column is there, of its type .*observed 1 of \d+ do not"):
        check(workspace, settings)
    left = json.loads((workspace.artifacts / "last.json").read_text(encoding="utf-8"))
    assert left["critical"] == ["Every column is there, of its type"]


def test_a_release_that_is_like_the_previous_one_has_no_drift_and_a_changed_one_has_warnings(
    rectified: pd.DataFrame, workspace: Workspace, settings: Config, release: Path
) -> None:
    section = STRICT.model_copy(update={"previous": str(release)})
    result = check(workspace, settings, section)
    assert result["warning"] == []
    assert sum(one["suite"] == "drift" for one in result["expectations"]) == 7  # type: ignore[attr-defined]
    out = workspace.artifacts / ".validation.partial"
    assert next(table for table in read_tables(out) if table.title == "Against the previous release").rows[-1][0].startswith("contrast")
    shutil.rmtree(out)
    rectified["entropy"] = np.linspace(0.5, 1.5, len(rectified))
    rectified.loc[rectified["action"] == "reject", "action"] = "keep"
    write_manifest(rectified, workspace.stage("rectification"))
    result = check(workspace, settings, section)
    assert result["success"] is True
    assert result["warning"] == ["Labels are as sure as in the previous release"]
    assert any((workspace.reports / "gx" / "validations" / "drift").rglob("*.html"))


def test_a_previous_release_is_read_in_parts_and_one_that_cannot_be_read_is_told_before_work(
    workspace: Workspace, settings: Config, release: Path, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "_ROWS_AT_ONCE", 16)
    profile = drift.profile_release(release)
    frame = pd.read_parquet(release / "manifest.parquet")
    assert profile.images == len(frame)
    assert profile.kept == pytest.approx((frame["action"] != "reject").mean())
    assert profile.aus.mean == pytest.approx(np.nanmean(np.stack(frame["aus"]), axis=0), abs=1e-5)
    with pytest.raises(DriftError, match=r"images-00000.parquet has no column 'label'"):
        drift.profile_release(generated)
    broken = tmp_path / "data" / "synthetic" / "broken"
    shutil.copytree(release, broken)
    shard = broken / "images-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(DriftError, match=r"images-00001.parquet cannot be read, see what is wrong with: synfer verify"):
        drift.profile_release(broken)
    out = workspace.artifacts / ".validation.partial"
    out.mkdir(parents=True)
    wrong = {"broken": "cannot be read", "brokn": r"unknown release 'brokn' \(did you mean 'broken'", "configs": "no release"}
    for previous, told in wrong.items():
        section = STRICT.model_copy(update={"previous": previous})
        with pytest.raises(SynferError, match=told):
            validation.run(section, settings.common, rectification=tmp_path / "none", synthesis=tmp_path / "none", out=out)
    assert not list(out.iterdir())


def test_classes_that_a_plan_does_not_ask_for_are_not_missed(rectified: pd.DataFrame) -> None:
    fear = rectified[rectified["expression"] == "fear"].assign(plan_cell="a", compound="")
    assert asked_classes(fear, DEFAULT_EXPRESSIONS) == ["fear"]
    joined = fear.assign(expression="", compound="happily surprised")
    assert asked_classes(pd.concat([fear, joined]), DEFAULT_EXPRESSIONS) == ["happiness", "surprise", "fear"]
    assert asked_classes(fear.assign(plan_cell=""), DEFAULT_EXPRESSIONS) == [*DEFAULT_EXPRESSIONS]


def test_an_empty_class_counts_as_empty(rectified: pd.DataFrame) -> None:
    facts = class_facts(rectified[rectified["label"] != "fear"], ("fear", "anger"))
    assert facts["images"].tolist()[0] == 0
    assert facts["ratio"].max() == facts["images"].max()
