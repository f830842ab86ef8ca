"""Registration: the registered version is loaded back by its alias and predicts what the classifier predicts."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from components import registration, tracking
from components.audits.finding import Finding, write_verdict
from components.embedded_corpus import write_corpus
from components.promotion.predict import check_model, predict_files
from components.promotion.registry import PromotionError, Registry
from components.promotion.served_model import to_pixels
from components.record import Record
from components.training_record import write_training_record
from components.workspace import Workspace
from synfer.classifiers.models import ClassifierError, create, load, save
from synfer.classifiers.predict import predict
from synfer.config import Common, Registration
from synfer.files import write_json
from synfer.images import ImageError, encode_png, encode_webp
from synfer.manifest import read_manifest
from synfer.vocabulary import DEFAULT_EXPRESSIONS

MEMORY = Finding("memorisation", "Nothing is remembered", "critical", True, "0.50", "share at most 0.55")
SECTION = Registration(model_name="faces", training_set="real", min_uar=0.0, max_ece=1.0)


STRANGERS = pd.DataFrame({"sample_id": ["face"], "identity": ["stranger"], "sha256": ["0" * 64]})


def save_trained(folder: Path, rows: pd.DataFrame, classes: tuple[str, ...] = DEFAULT_EXPRESSIONS) -> None:
    """Fresh weights that say they were trained on these manifest rows."""
    folder.mkdir(parents=True, exist_ok=True)
    trained_on = write_training_record(folder, {"real": rows}, images=len(rows))
    save(create("resnet10t", classes, image_size=64, seed=1), folder, {"trained_on": trained_on})


@pytest.fixture
def stages(tracked_workspace: Workspace) -> Path:
    """Folders of the stages that registration reads: fresh weights and made-up measurements."""
    workspace = tracked_workspace
    save_trained(workspace.stage("classifiers") / "real", STRANGERS)
    record = Record(workspace.stage("evaluation"))
    record.metric("classifiers/real/uar", 0.5, low=0.4, high=0.6, n=70)
    record.metric("classifiers/real/recall/fear", 0.25, n=10)
    record.metric("classifiers/synthetic/uar", 0.9)
    record.save()
    write_json(workspace.stage("validation") / "result.json", {"success": True})
    write_verdict([MEMORY], workspace.stage("audit"))
    write_corpus(workspace.stage("corpus/test"), identities=14, images_per_identity=1, size=64)
    return workspace.artifacts


def register(workspace: Workspace, name: str, section: Registration = SECTION) -> dict[str, Any]:
    out = workspace.artifacts / name
    tags = {"prefect.flow_run": f"flow-{name}"}
    with tracking.stage_run(workspace, "registration", parameters={}, tags=tags):
        inputs = {stage: workspace.stage(stage) for stage in ("evaluation", "classifiers", "validation", "audit")}
        registration.run(section, Common(), **inputs, test=workspace.stage("corpus/test"), out=out)
    return json.loads((out / "registration.json").read_text())


def version(number: str) -> mlflow.entities.model_registry.ModelVersion:
    return mlflow.MlflowClient().get_model_version("faces", number)


def test_champion_predicts_from_pixels_and_from_bytes_and_the_next_one_is_challenger(tracked_workspace: Workspace, stages: Path) -> None:
    register(tracked_workspace, "first")
    register(tracked_workspace, "second", SECTION.model_copy(update={"max_ece": 0.99}))
    client = mlflow.MlflowClient()
    aliases = client.get_registered_model("faces").aliases
    assert {alias: int(number) for alias, number in aliases.items()} == {"champion": 1, "challenger": 2}

    model = mlflow.pyfunc.load_model("models:/faces@champion")
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    expected = predict(load(stages / "classifiers" / "real"), images)
    from_pixels = model.predict(images)
    assert list(from_pixels.columns) == ["label", *DEFAULT_EXPRESSIONS, "model_version"]
    np.testing.assert_allclose(from_pixels[list(DEFAULT_EXPRESSIONS)].to_numpy(), expected, atol=1e-6)
    assert from_pixels["label"].tolist() == [DEFAULT_EXPRESSIONS[index] for index in expected.argmax(axis=1)]
    assert set(from_pixels["model_version"]) == {"1"}
    pd.testing.assert_frame_equal(model.predict(pd.DataFrame({"image": [encode_png(image) for image in images]})), from_pixels)


def test_files_are_predicted_as_the_classifier_predicts_them(tracked_workspace: Workspace, stages: Path, tmp_path: Path) -> None:
    register(tracked_workspace, "first")
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    paths = [tmp_path / f"{row}.png" for row in range(3)]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(encode_png(image))
    found = predict_files(tracked_workspace, paths, "models:/faces@champion")
    expected = predict(load(stages / "classifiers" / "real"), images)
    np.testing.assert_allclose(found[list(DEFAULT_EXPRESSIONS)].to_numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(found["probability"], expected.max(axis=1), atol=1e-6)
    assert found["file"].tolist() == [str(path) for path in paths]
    assert set(found["model_version"]) == {"1"}
    by_folder = predict_files(tracked_workspace, paths, str(stages / "classifiers" / "real"))
    digest = load(stages / "classifiers" / "real").sha256[:12]
    pd.testing.assert_frame_equal(by_folder, found.assign(model_version=f"sha256:{digest}"), check_dtype=False)
    with pytest.raises(ImageError, match=rf"{tmp_path} is a folder; name its pictures, for example {tmp_path}/\*\.png"):
        predict_files(tracked_workspace, [tmp_path], "models:/faces@champion")
    with pytest.raises(ClassifierError, match=r"classifiers/reel/card\.json does not exist"):
        predict_files(tracked_workspace, paths, str(stages / "classifiers" / "reel"))
    paths[1].write_text("no picture")
    with pytest.raises(ImageError, match=r"1\.png: not a readable image"):
        predict_files(tracked_workspace, paths, "models:/faces@champion")
    check_model(tracked_workspace, "models:/faces@champion")
    for ask in (check_model, lambda workspace, uri: predict_files(workspace, paths[:1], uri)):
        with pytest.raises(PromotionError, match=r"MLflow has no model models:/faces@nobody: .*alias nobody not found; registered: faces"):
            ask(tracked_workspace, "models:/faces@nobody")
        with pytest.raises(PromotionError, match=r"MLflow has no model models:/face@champion: .*registered: faces"):
            ask(tracked_workspace, "models:/face@champion")


def test_version_leads_back_to_flow_run_and_measurement(tracked_workspace: Workspace, stages: Path) -> None:
    register(tracked_workspace, "first")
    first = version("1")
    assert first.tags["prefect.flow_run"] == "flow-first"
    assert first.tags["validation_status"] == "passed"
    assert first.tags["metric.uar"] == "0.5000"
    assert first.tags["test.digest"] == registration.test_digest(stages / "corpus" / "test")
    assert "| Mean class recall (UAR) | 0.500 (0.400 to 0.600) | 70 |" in first.description
    assert "0.9" not in first.description.split("Gate")[0], "another training set's figure"


KILLED_AFTER = ((registration, "log_classifier"), (registration, "_new_version"), (registration, "_gate_tags"))
KILLED_BEFORE = ((Registry, "_complete"), (Registry, "_set_history"), (registration, "_record"))


def register_killed(workspace: Workspace, where: tuple[Any, str], *, before: bool) -> int:
    """Register in a process of its own, which kills itself when it comes to a function, before or after it; returns its status."""
    owner, name = where
    real = getattr(owner, name)

    def fatal(*arguments: Any, **named: Any) -> None:
        if not before:
            real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    def attempt() -> None:
        setattr(owner, name, fatal)  # of the process alone
        register(workspace, "killed")

    process = get_context("fork").Process(target=attempt)
    process.start()
    process.join()
    return process.exitcode or 0


def test_killed_at_any_moment_the_same_content_becomes_one_version_that_is_completed(tracked_workspace: Workspace, stages: Path) -> None:
    for places, before in ((KILLED_AFTER, False), (KILLED_BEFORE, True)):
        for where in places:
            assert register_killed(tracked_workspace, where, before=before) == -signal.SIGKILL, f"it never came to {where[1]}"
    for name in ("rerun", "again"):
        assert register(tracked_workspace, name) | {"model_id": ""} == {"model": "faces", "version": 1, "alias": "champion", "model_id": ""}
    registry = Registry(tracked_workspace, "faces")
    assert [found.version for found in registry.client.search_model_versions("name = 'faces'")] == [1]
    assert registry.history() == ["1"]
    assert registry.holder("challenger") == ""
    assert {"gate", "gate.reason", "validation_status", "metric.uar", "test.digest", "promoted"} <= set(version("1").tags)
    assert version("1").description.startswith("#")
    mlflow.pyfunc.load_model("models:/faces@champion")


def test_a_version_below_the_minimum_is_registered_with_its_reason_and_without_an_alias(
    tracked_workspace: Workspace, stages: Path
) -> None:
    made = register(tracked_workspace, "first", SECTION.model_copy(update={"min_uar": 0.99}))
    assert made["alias"] == ""
    assert mlflow.MlflowClient().get_registered_model("faces").aliases == {}
    assert version("1").tags["gate"] == "failed"
    assert re.fullmatch(r"UAR is 0\.\d+ \(.*\), at least 0\.99 is wanted", version("1").tags["gate.reason"])
    assert "## Gate before promotion: FAILED\n" in version("1").description
    assert "FAILED: UAR is" in version("1").description


def test_a_closed_validation_holds_a_version_back(tracked_workspace: Workspace, stages: Path) -> None:
    register(tracked_workspace, "first")
    write_json(stages / "validation" / "result.json", {"success": False, "critical": ["labels confirm the intent"]})
    assert register(tracked_workspace, "second")["alias"] == ""
    assert version("2").tags["gate.reason"] == "validation did not pass: labels confirm the intent"
    assert version("2").tags["validation_status"] == "failed"


def test_a_failed_audit_holds_a_version_back(tracked_workspace: Workspace, stages: Path) -> None:
    write_verdict([replace(MEMORY, success=False)], stages / "audit")
    assert register(tracked_workspace, "first")["alias"] == ""
    assert version("1").tags["gate.reason"] == "audit did not pass: memorisation"
    assert version("1").tags["validation_status"] == "passed"


def test_warnings_of_earlier_stages_are_told_and_hold_nothing_back(tracked_workspace: Workspace, stages: Path) -> None:
    write_verdict([MEMORY, replace(MEMORY, name="balance", severity="warning", success=False)], stages / "audit")
    assert register(tracked_workspace, "first")["alias"] == "champion"
    assert version("1").tags["gate.reason"].startswith("validation passed; audit passed, warnings: balance; UAR is")
    assert "- passed: audit passed, warnings: balance" in version("1").description


def test_a_champion_with_other_classes_is_not_compared_in_silence(tracked_workspace: Workspace, stages: Path) -> None:
    save_trained(stages / "classifiers" / "real", STRANGERS, DEFAULT_EXPRESSIONS[:5])
    five = Common(expressions=DEFAULT_EXPRESSIONS[:5])
    with tracking.stage_run(tracked_workspace, "registration", parameters={}):
        inputs = {stage: tracked_workspace.stage(stage) for stage in ("evaluation", "classifiers", "validation", "audit")}
        registration.run(SECTION, five, **inputs, test=stages / "corpus" / "test", out=stages / "five")
    save_trained(stages / "classifiers" / "real", STRANGERS)
    assert register(tracked_workspace, "seven")["alias"] == ""
    assert "champion 1 does not know disgust, anger" in version("2").tags["gate.reason"]


def test_a_champion_that_has_learned_the_test_faces_is_compared_with_nobody(tracked_workspace: Workspace, stages: Path) -> None:
    met = read_manifest(stages / "corpus" / "test").iloc[[3]]
    save_trained(stages / "classifiers" / "real", met)
    register(tracked_workspace, "first")  # while the corpus was split in another way
    save_trained(stages / "classifiers" / "real", STRANGERS)
    assert register(tracked_workspace, "second", SECTION.model_copy(update={"max_ece": 0.99}))["alias"] == "challenger"
    reason = version("2").tags["gate.reason"]
    assert "not compared with champion 1: " in reason
    assert f"was trained on 1 of the 14 images of the test split, for example {met['sample_id'].iloc[0]}" in reason
    assert "UAR against champion" not in reason


def test_pixels_of_any_encoding_and_a_clear_error() -> None:
    image = np.full((32, 48, 3), 200, np.uint8)
    assert to_pixels(image.tolist(), 0).dtype == np.uint8
    assert to_pixels(encode_webp(image), 0).shape == (32, 48, 3)
    with pytest.raises(ImageError, match="row 5 of the input: not a readable image"):
        to_pixels(b"no image", 5)
    with pytest.raises(ImageError, match="row 1 of the input is text but not the base64 of an image"):
        to_pixels("no image", 1)
    with pytest.raises(ImageError, match=r"row 2 of the input has shape \(32, 48\)"):
        to_pixels(image[..., 0], 2)
