"""The classifiers stage: equal budget, rectified labels, one start for every training set."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.classifiers import calibrate, examples_of, phase_examples, real_rows, run, training_parts
from components.corpus import run as run_corpus
from components.embedded_corpus import write_corpus
from components.record import read_metrics, read_pictures
from components.training_examples import rectified_targets, vote_targets
from components.training_record import TrainingRecordError, check_unseen
from synfer.annotation.calibration import scale
from synfer.classifiers.examples import Examples
from synfer.classifiers.models import create, load, save
from synfer.classifiers.predict import predict
from synfer.config import Classifiers, Common, Corpus
from synfer.manifest import read_manifest, write_manifest
from synfer.metrics.roles import expand_identities
from synfer.training_sets import TrainingSetError, parse_training_set
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


def test_calibration_divides_the_logits_by_what_val_asks_for() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    model = create("test_resnet", DEFAULT_EXPRESSIONS, image_size=32, seed=0).eval()
    before = predict(model, images)
    labels = np.array([rng.choice(7, p=row / row.sum()) for row in (before.astype(float) ** 4)])  # surer than the model says
    val = Examples(images, np.eye(7, dtype=np.float32)[labels], np.ones(60, np.float32))
    temperature = calibrate(model, val, COMMON)
    after = predict(model, images)
    assert temperature < 0.8
    assert np.allclose(after, scale(np.log(before), temperature), atol=1e-5)
    assert (after.argmax(1) == before.argmax(1)).all()


def test_every_set_is_trained_and_saved(artifacts: dict[str, Path], tmp_path: Path) -> None:
    run(SECTION, COMMON, **artifacts, out=tmp_path)
    metrics = read_metrics(tmp_path)
    for name in ("real", "synthetic", "real+synthetic"):
        assert load(tmp_path / name).classes == DEFAULT_EXPRESSIONS
        assert load(tmp_path / name).card["temperature"] > 0
        history = json.loads((tmp_path / name / "history.json").read_text())
        assert [set(epoch) for epoch in history] == [{"loss", "val_uar", "val_accuracy", "val_nll"}] * 2
        assert metrics[f"classifiers/{name}/val_uar"].value == max(epoch["val_uar"] for epoch in history)
    sizes = {name: metrics[f"classifiers/{name}/train_images"].value for name in ("real", "synthetic", "real+synthetic")}
    assert sizes == {"real": 42, "synthetic": 42, "real+synthetic": 84}  # 56 generated, a quarter rejected
    assert [picture.file for picture in read_pictures(tmp_path)] == ["training.png"]


def test_a_killed_stage_keeps_what_is_finished_and_resumes_inside_a_training(
    artifacts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = SECTION.model_copy(update={"training_sets": ("real", "synthetic>real"), "epochs": 3})
    run(section, COMMON, **artifacts, out=tmp_path / "whole")
    told: list[str] = []

    def kill(metrics: dict[str, float], *, step: int) -> None:
        told.append(f"{next(iter(metrics)).split('/')[0]} {step}")
        if told[-1] == "synthetic>real 4":  # the second epoch of the second phase
            raise KeyboardInterrupt

    monkeypatch.setattr("components.classifiers.log_metrics", kill)
    with pytest.raises(KeyboardInterrupt):
        run(section, COMMON, **artifacts, out=tmp_path / "killed")
    finished = (tmp_path / "killed" / "real" / "model.safetensors").stat().st_mtime_ns
    assert not (tmp_path / "killed" / "synthetic>real" / "card.json").exists()
    monkeypatch.setattr("components.classifiers.log_metrics", lambda metrics, *, step: None)
    run(section, COMMON, **artifacts, out=tmp_path / "killed")
    assert (tmp_path / "killed" / "real" / "model.safetensors").stat().st_mtime_ns == finished
    for name in ("real/model.safetensors", "synthetic>real/model.safetensors", "synthetic>real/history.json", "metrics.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "killed").rglob("checkpoint"))


def test_a_fine_tuned_classifier_is_the_best_epoch_of_its_last_phase(artifacts: dict[str, Path], tmp_path: Path) -> None:
    run(SECTION.model_copy(update={"training_sets": ("synthetic>real",)}), COMMON, **artifacts, out=tmp_path)
    history = json.loads((tmp_path / "synthetic>real" / "history.json").read_text())
    assert [epoch["phase"] for epoch in history] == [1, 1, 2, 2]
    best = max(epoch["val_uar"] for epoch in history[2:])
    assert read_metrics(tmp_path)["classifiers/synthetic>real/val_uar"].value == best
    assert set(pd.read_parquet(tmp_path / "synthetic>real" / "trained_on.parquet")["use"]) == {"real", "synthetic", "val"}


def test_steps_are_equal_across_training_sets_and_phases(artifacts: dict[str, Path]) -> None:
    parts = training_parts(SECTION, COMMON, **{name: artifacts[name] for name in ("development", "synthesis", "rectification")})
    section = SECTION.model_copy(update={"steps": 20, "epochs": 2})
    batches = []
    for name in ("real", "real+synthetic", "real:1+synthetic:3", "synthetic>real"):
        phases = parse_training_set(name)
        drawn = [phase_examples(phase, name, parts, section, phases=len(phases))[1] for phase in phases]
        batches.append(sum(2 * draw.rows / section.batch_size for draw in drawn if draw))
    assert batches == [20] * 4
    assert phase_examples(parse_training_set("real")[0], "real", parts, SECTION)[1] is None


def test_a_ratio_mixes_the_parts_whatever_their_sizes(artifacts: dict[str, Path]) -> None:
    parts = training_parts(SECTION, COMMON, **{name: artifacts[name] for name in ("development", "synthesis", "rectification")})
    parts["real"] = parts["real"].take(np.arange(7))
    (phase,) = parse_training_set("real:1+synthetic:3")
    train, draw = phase_examples(phase, "real:1+synthetic:3", parts, SECTION)
    assert draw is not None
    assert (len(train), draw.rows, draw.counts) == (49, 49, (12, 37))


@pytest.mark.parametrize("method", ["simclr"])
def test_a_self_supervised_start_changes_the_backbone(artifacts: dict[str, Path], tmp_path: Path, method: str) -> None:
    section = SECTION.model_copy(update={"training_sets": ("real",), "epochs": 1, "pretrain_epochs": 1, "pretrain_batch_size": 21})
    run(section, COMMON, **artifacts, out=tmp_path / "fresh")
    run(section.model_copy(update={"pretrain": method}), COMMON, **artifacts, out=tmp_path / "pretrained")
    fresh, pretrained = (load(tmp_path / name / "real") for name in ("fresh", "pretrained"))
    assert fresh.sha256 != pretrained.sha256
    assert pretrained.card["recipe"]["pretrain"] == method


def test_a_classifier_leaves_a_record_of_its_rows_and_people(artifacts: dict[str, Path], tmp_path: Path) -> None:
    run(SECTION.model_copy(update={"training_sets": ("real",), "epochs": 1}), COMMON, **artifacts, out=tmp_path)
    model, frame = load(tmp_path / "real"), read_manifest(artifacts["development"])
    record = pd.read_parquet(tmp_path / "real" / "trained_on.parquet")
    assert record["use"].value_counts().to_dict() == {"real": 42, "val": (frame["split"] == "val").sum()}
    assert expand_identities(model.card["trained_on"]["identities"]) == set(record["identity"])
    strangers = read_manifest(artifacts["development"].parent / "test")
    check_unseen(model, tmp_path / "real", strangers, where="test")
    val = frame[frame["split"] == "val"]
    found = rf"was trained on {len(val)} of the {len(val)} images of val.*{val['sha256'].iloc[0][:12]}, used as val"
    with pytest.raises(TrainingRecordError, match=found):
        check_unseen(model, tmp_path / "real", val, where="val")
    with pytest.raises(TrainingRecordError, match=f"images of .* people of val, for example {val['identity'].iloc[0]}"):
        check_unseen(model, tmp_path / "real", val.assign(sha256="new"), where="val")
    record.iloc[1:].to_parquet(tmp_path / "real" / "trained_on.parquet")
    with pytest.raises(TrainingRecordError, match=f"the card says {model.card['trained_on']['rows_sha256'][:12]}"):
        check_unseen(model, tmp_path / "real", strangers, where="test")
    (tmp_path / "real" / "trained_on.parquet").unlink()
    with pytest.raises(TrainingRecordError, match=f"images of .* people of val, for example {val['identity'].iloc[0]}"):
        check_unseen(model, tmp_path / "real", val, where="val")  # the card still knows the people
    save(model.module, tmp_path / "real", {})
    with pytest.raises(TrainingRecordError, match=r"holds no trained_on\.parquet"):
        check_unseen(load(tmp_path / "real"), tmp_path / "real", strangers, where="test")


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
