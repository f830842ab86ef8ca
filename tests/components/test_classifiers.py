"""The classifiers stage: equal budget, rectified labels, one start for every training set."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.classifiers import TrainingSetError, examples_of, real_rows, run, training_parts
from components.corpus import run as run_corpus
from components.embedded_corpus import write_corpus
from components.record import read_metrics, read_pictures
from components.training_examples import rectified_targets, vote_targets
from synfer.classifiers.models import load
from synfer.config import Classifiers, Common, Corpus
from synfer.manifest import read_manifest, write_manifest
from synfer.vocabulary import DEFAULT_EXPRESSIONS, EXPRESSIONS

COMMON = Common(image_size=32)
SECTION = Classifiers(backbone="test_resnet", epochs=2, batch_size=16)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A corpus, and generated faces (rendered ones here) that rectification has kept, softened, relabelled and rejected in turn."""
    root = tmp_path_factory.mktemp("artifacts")
    write_corpus(root / "faces", identities=20, images_per_identity=7, size=32)
    run_corpus(Corpus(source=str(root / "faces")), COMMON, out=root)
    frame = write_corpus(root / "synthesis", identities=8, images_per_identity=7, size=32, seed=1)
    write_manifest(rectified(frame), root / "rectification")
    inputs = {name: root / name for name in ("development", "synthesis", "rectification")}
    return {**inputs, "validation": root}


def rectified(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of rectification, one action after the other."""
    actions = np.array(["keep", "soften", "relabel", "reject"])[np.arange(len(frame)) % 4]
    posterior = np.full((len(frame), len(EXPRESSIONS)), 0.05, np.float32)
    posterior[np.arange(len(frame)), [EXPRESSIONS.index(name) for name in frame["true_expression"]]] = 0.65
    weight = np.select([actions == "reject", actions == "soften"], [0.0, 0.5], 1.0)
    extra = {"entropy": 0.5, "agreement": 1.0, "reason": "for the test"}
    return frame.assign(label=frame["true_expression"], posterior=list(posterior), action=actions, weight=weight, **extra)


def test_every_set_is_trained_and_saved(artifacts: dict[str, Path], tmp_path: Path) -> None:
    run(SECTION, COMMON, **artifacts, out=tmp_path)
    metrics = read_metrics(tmp_path)
    for name in ("real", "synthetic", "real+synthetic"):
        assert load(tmp_path / name).classes == DEFAULT_EXPRESSIONS
        history = json.loads((tmp_path / name / "history.json").read_text())
        assert [set(epoch) for epoch in history] == [{"loss", "val_uar", "val_accuracy", "val_nll"}] * 2
        assert metrics[f"classifiers/{name}/val_uar"].value == max(epoch["val_uar"] for epoch in history)
    sizes = {name: metrics[f"classifiers/{name}/train_images"].value for name in ("real", "synthetic", "real+synthetic")}
    assert sizes == {"real": 42, "synthetic": 42, "real+synthetic": 84}  # 56 generated, a quarter rejected
    assert [picture.file for picture in read_pictures(tmp_path)] == ["training.png"]


def test_a_budget_of_real_images(artifacts: dict[str, Path]) -> None:
    inputs = {name: artifacts[name] for name in ("development", "synthesis", "rectification")}
    parts = training_parts(SECTION.model_copy(update={"train_images": 21}), COMMON, **inputs)
    assert (len(parts["real"]), len(parts["synthetic"])) == (21, 42)


def test_real_rows_are_training_rows_balanced_and_seeded(artifacts: dict[str, Path]) -> None:
    frame = read_manifest(artifacts["development"])
    rows = real_rows(frame, COMMON, 35)
    assert set(rows["split"]) == {"train"}
    assert rows["expression"].value_counts().tolist() == [5] * 7
    assert rows["sample_id"].tolist() == real_rows(frame, COMMON, 35)["sample_id"].tolist()
    assert rows["sample_id"].tolist() != real_rows(frame, Common(seed=1, image_size=32), 35)["sample_id"].tolist()


def test_rejected_images_are_left_out_and_weights_kept(artifacts: dict[str, Path]) -> None:
    parts = training_parts(SECTION, COMMON, **{name: artifacts[name] for name in ("development", "synthesis", "rectification")})
    assert sorted(set(parts["synthetic"].weights)) == [0.5, 1.0]
    assert (parts["synthetic"].targets.sum(1) == pytest.approx(np.ones(42)))


def test_only_softened_rows_learn_their_posterior() -> None:
    posterior = [0.5, 0.5, 0, 0, 0, 0, 0, 0]
    rows = pd.DataFrame({"label": ["happiness"] * 3, "action": ["keep", "soften", "relabel"], "posterior": [posterior] * 3})
    found = rectified_targets(rows, ("happiness", "neutral"))
    assert found.tolist() == [[1, 0], [0.5, 0.5], [1, 0]]


def test_votes_are_shares_of_the_wanted_classes() -> None:
    votes = [[6, 3, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 10]]
    rows = pd.DataFrame({"expression": ["neutral", "happiness"], "votes": votes})
    found = vote_targets(rows, ("happiness", "neutral"))
    assert found == pytest.approx(np.array([[1 / 3, 2 / 3], [1.0, 0.0]]))  # votes for contempt alone leave the label


def test_a_set_in_which_everything_is_rejected_is_named(artifacts: dict[str, Path], tmp_path: Path) -> None:
    frame = read_manifest(artifacts["rectification"]).assign(action="reject", weight=0.0)
    write_manifest(frame, tmp_path)
    inputs = {"development": artifacts["development"], "synthesis": artifacts["synthesis"], "rectification": tmp_path}
    with pytest.raises(TrainingSetError, match="'synthetic' has no image"):
        examples_of("synthetic", training_parts(SECTION.model_copy(update={"train_images": 14}), COMMON, **inputs))
