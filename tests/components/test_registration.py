"""Registration: the registered version is loaded back by its alias and predicts what the classifier predicts."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from components import registration, tracking
from components.record import Record
from components.served_model import to_pixels
from components.workspace import Workspace
from synfer.classifiers.models import create, load, save
from synfer.classifiers.predict import predict
from synfer.config import Common, Registration
from synfer.files import write_json
from synfer.images import ImageError, encode_png, encode_webp
from synfer.vocabulary import DEFAULT_EXPRESSIONS

SECTION = Registration(model_name="faces", training_set="real")


@pytest.fixture
def stages(tracked_workspace: Workspace) -> Path:
    """Folders of the stages that registration reads: fresh weights and made-up measurements."""
    workspace = tracked_workspace
    network = create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64, seed=1)
    save(network, workspace.stage("classifiers") / "real", {})
    record = Record(workspace.stage("evaluation"))
    record.metric("classifiers/real/uar", 0.5, low=0.4, high=0.6, n=70)
    record.metric("classifiers/real/recall/fear", 0.25, n=10)
    record.metric("classifiers/synthetic/uar", 0.9)
    record.save()
    write_json(workspace.stage("validation") / "result.json", {"success": True})
    return workspace.artifacts


def register(workspace: Workspace, name: str) -> Path:
    out = workspace.artifacts / name
    tags = {"prefect.flow_run": f"flow-{name}"}
    with tracking.stage_run(workspace, "registration", parameters={}, tags=tags):
        inputs = {stage: workspace.stage(stage) for stage in ("evaluation", "classifiers", "validation")}
        registration.run(SECTION, Common(), **inputs, out=out)
    return out


def test_champion_predicts_from_pixels_and_from_bytes_and_the_next_one_is_challenger(tracked_workspace: Workspace, stages: Path) -> None:
    register(tracked_workspace, "first")
    register(tracked_workspace, "second")
    client = mlflow.MlflowClient()
    aliases = client.get_registered_model("faces").aliases
    assert {alias: int(number) for alias, number in aliases.items()} == {"champion": 1, "challenger": 2}

    model = mlflow.pyfunc.load_model("models:/faces@champion")
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    expected = predict(load(stages / "classifiers" / "real"), images)
    from_pixels = model.predict(images)
    assert list(from_pixels.columns) == list(DEFAULT_EXPRESSIONS)
    np.testing.assert_allclose(from_pixels.to_numpy(), expected, atol=1e-6)
    from_bytes = model.predict(pd.DataFrame({"image": [encode_png(image) for image in images]}))
    np.testing.assert_allclose(from_bytes.to_numpy(), expected, atol=1e-6)


def test_version_leads_back_to_flow_run_and_measurement(tracked_workspace: Workspace, stages: Path) -> None:
    register(tracked_workspace, "first")
    version = mlflow.MlflowClient().get_model_version_by_alias("faces", "champion")
    assert version.tags["prefect.flow_run"] == "flow-first"
    assert version.tags["validation_status"] == "passed"
    assert version.tags["metric.uar"] == "0.5000"
    assert "| Mean class recall (UAR) | 0.500 | 0.400 to 0.600 | 70 |" in version.description
    assert "0.9" not in version.description, "another training set's figure"


def test_pixels_of_any_encoding_and_a_clear_error() -> None:
    image = np.full((32, 48, 3), 200, np.uint8)
    assert to_pixels(image.tolist(), 0).dtype == np.uint8
    assert to_pixels(encode_webp(image), 0).shape == (32, 48, 3)
    with pytest.raises(ImageError, match="row 5 of the input: not a readable image"):
        to_pixels(b"no image", 5)
    with pytest.raises(ImageError, match=r"row 2 of the input has shape \(32, 48\)"):
        to_pixels(image[..., 0], 2)
