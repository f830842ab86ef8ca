"""The evaluation stage: metrics on the test split that agree with its own predictions, realism, and a judge of no other role."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.classifiers import run as run_classifiers
from components.corpus import CorpusError
from components.corpus import run as run_corpus
from components.embedded_corpus import write_corpus
from components.evaluation import run
from components.fer_models import run as run_fer_models
from components.generator_role import ROLE
from components.group_gaps import group_gaps, record_gaps
from components.guidance import STEERING
from components.record import Record, read_metrics, read_pictures, read_tables
from components.training_record import TrainingRecordError, write_training_record
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import load, save
from synfer.config import Classifiers, Common, Corpus, Evaluation, FerModels
from synfer.diffusion.latent_guide import GUIDE, LatentNetwork, save_latent_guide
from synfer.diffusion.tiny_sd import tiny_autoencoder
from synfer.files import write_json
from synfer.manifest import read_manifest, write_manifest
from synfer.metrics.bootstrap import interval
from synfer.metrics.classification import ECE, UAR
from synfer.metrics.roles import RoleConflict
from synfer.vocabulary import DEFAULT_EXPRESSIONS, EXPRESSIONS

COMMON = Common(image_size=32)
SECTION = Evaluation(bootstrap=200, judged_images=70)
SETS = ("real", "synthetic", "real+synthetic")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the stages before leave, at the smallest size; the generated faces are rendered ones of other people."""
    root = tmp_path_factory.mktemp("artifacts")
    for name in ("fer_models", "classifiers"):
        (root / name).mkdir()
    write_corpus(root / "faces", identities=28, images_per_identity=7, size=32)
    run_corpus(Corpus(source=str(root / "faces")), COMMON, out=root)
    frame = write_corpus(root / "synthesis", identities=14, images_per_identity=7, size=32, seed=1)
    posterior = np.eye(len(EXPRESSIONS), dtype=np.float32)[[EXPRESSIONS.index(name) for name in frame["expression"]]]
    action = np.where(np.arange(len(frame)) % 5 == 0, "reject", "keep")
    extra = {"entropy": 0.0, "agreement": 1.0, "reason": "for the test", "weight": (action == "keep").astype(float)}
    write_manifest(frame.assign(label=frame["true_expression"], posterior=list(posterior), action=action, **extra), root / "rectification")
    fer = FerModels(source="train", guide="test_resnet", annotators=("test_efficientnet",), judge="test_byobnet", epochs=2)
    run_fer_models(fer, COMMON, development=root / "development", out=root / "fer_models")
    write_json(root / "synthesis" / STEERING, {"form": "published"})
    write_json(root / "generator" / ROLE, {"sha256": "0" * 64, "identities": ["person-10000..person-10010"]})
    inputs = {name: root / name for name in ("development", "synthesis", "rectification")}
    section = Classifiers(backbone="test_resnet", epochs=2)
    run_classifiers(section, COMMON, **inputs, validation=root, out=root / "classifiers")
    return {**inputs, **{name: root / name for name in ("test", "classifiers", "fer_models", "generator")}}


@pytest.fixture(scope="module")
def out(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    run(SECTION, COMMON, **inputs, out=folder)
    return folder


@pytest.mark.parametrize("name", SETS)
def test_metrics_follow_from_the_predictions_that_are_kept(inputs: dict[str, Path], out: Path, name: str) -> None:
    table, metrics = pd.read_parquet(out / "predictions" / f"{name}.parquet"), read_metrics(out)
    test = read_manifest(inputs["test"]).set_index("sample_id")
    assert (table.set_index("sample_id")["truth"] == test.loc[table["sample_id"], "true_expression"]).all()
    probabilities = table[[f"p_{label}" for label in DEFAULT_EXPRESSIONS]].to_numpy()
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    right = np.array(DEFAULT_EXPRESSIONS)[probabilities.argmax(1)] == table["truth"]
    accuracy = metrics[f"classifiers/{name}/accuracy"]
    assert accuracy.value == pytest.approx(right.mean())
    assert accuracy.n == len(test)
    recalls = [right[table["truth"] == label].mean() for label in DEFAULT_EXPRESSIONS]
    assert metrics[f"classifiers/{name}/uar"].value == pytest.approx(np.mean(recalls))
    assert metrics[f"classifiers/{name}/recall/fear"].n == (table["truth"] == "fear").sum()
    people = test.loc[table["sample_id"], "identity"].tolist()
    assert table["identity"].tolist() == people
    truth, settings = class_indices(table["truth"].tolist(), DEFAULT_EXPRESSIONS), {"resamples": SECTION.bootstrap, "groups": people}
    uar, ece = (interval(metric, truth, probabilities, **settings) for metric in (UAR, ECE))
    for key, wanted in (("uar", uar), ("ece", ece)):
        found = metrics[f"classifiers/{name}/{key}"]
        assert [found.low, found.high] == pytest.approx([wanted.low, wanted.high])
    assert 0 < metrics[f"classifiers/{name}/ece_by_chance"].value < 1


def test_every_metric_that_the_report_needs_has_an_interval(out: Path) -> None:
    metrics = read_metrics(out)
    wanted = [f"classifiers/{name}/{key}" for name in SETS for key in ("accuracy", "uar", "macro_f1", "nll", "ece")]
    wanted += [f"classifiers/{name}/uar_minus_real" for name in SETS[1:]]
    judged = ("judge_accuracy", "guide_accuracy", "guide_judge_gap", "kept_judge_accuracy")
    wanted += [f"generation/{key}" for key in (*judged, "kid", "kid_floor", "precision", "recall")]
    wanted += [f"generation/judge_accuracy/{name}" for name in DEFAULT_EXPRESSIONS]
    for key in wanted:
        metric = metrics[key]
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low <= metric.high
        assert metric.n


def test_the_judge_is_asked_about_the_intent(out: Path) -> None:
    table, metrics = pd.read_parquet(out / "predictions" / "generated.parquet"), read_metrics(out)
    assert len(table) == SECTION.judged_images
    seen = table[[f"judge_{label}" for label in DEFAULT_EXPRESSIONS]].to_numpy().argmax(1)
    right = np.array(DEFAULT_EXPRESSIONS)[seen] == table["intent"]
    assert metrics["generation/judge_accuracy"].value == pytest.approx(right.mean())
    gap = metrics["generation/guide_accuracy"].value - metrics["generation/judge_accuracy"].value
    assert metrics["generation/guide_judge_gap"].value == pytest.approx(gap)
    assert metrics["generation/kept_judge_accuracy"].n < len(table)


def test_it_leaves_what_people_see(out: Path) -> None:
    assert {picture.file for picture in read_pictures(out)} == {
        "classifiers.png", "recall.png", "confusion.png", "reliability.png", "misclassified.png", "judge_accuracy.png",
        "intent_confusion.png", "real_beside_generated.png",
    }  # fmt: skip
    differences = next(table for table in read_tables(out) if table.title.startswith("Paired"))
    assert [row[0] for row in differences.rows] == ["synthetic minus real", "real+synthetic minus real"]
    assert any("penultimate features of the judge, test_byobnet" in table.title for table in read_tables(out))


def test_without_exact_truth_the_annotated_label_is_the_truth(inputs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(inputs["test"], tmp_path / "test")
    frame = read_manifest(inputs["test"])
    write_manifest(frame.drop(columns="true_expression"), tmp_path / "test")
    run(SECTION, COMMON, **{**inputs, "test": tmp_path / "test"}, out=tmp_path)
    table = pd.read_parquet(tmp_path / "predictions" / "real.parquet")
    assert table["truth"].tolist() == frame["expression"].tolist()


def test_a_judge_that_is_also_the_guide_stops_everything(inputs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(inputs["fer_models"], tmp_path / "fer_models")
    guide = load(inputs["fer_models"] / "guide")
    save(guide.module, tmp_path / "fer_models" / "judge", guide.card)
    with pytest.raises(RoleConflict, match=f"sha256 {guide.sha256}"):
        run(SECTION, COMMON, **{**inputs, "fer_models": tmp_path / "fer_models"}, out=tmp_path)
    assert not (tmp_path / "predictions").exists()


def test_a_judge_that_has_met_the_test_people_stops_everything(inputs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(inputs["fer_models"], tmp_path / "fer_models")
    judge = load(inputs["fer_models"] / "judge")
    person = read_manifest(inputs["test"])["identity"].iloc[0]
    save(judge.module, tmp_path / "fer_models" / "judge", {**judge.card, "trained_on": {"images": 1, "identities": [person]}})
    with pytest.raises(RoleConflict, match=f"the test split share 1 training identities, for example {person}"):
        run(SECTION, COMMON, **{**inputs, "fer_models": tmp_path / "fer_models"}, out=tmp_path)


def test_a_classifier_that_was_trained_on_a_test_image_stops_everything(inputs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(inputs["classifiers"], tmp_path / "classifiers")
    folder, image = tmp_path / "classifiers" / "real", read_manifest(inputs["test"]).iloc[[3]]
    model = load(folder)
    trained_on = write_training_record(folder, {"real": image}, images=1)
    save(model.module, folder, {**model.card, "trained_on": trained_on})
    with pytest.raises(TrainingRecordError, match=f"trained on 1 of .* images of the test split, for example {image['sample_id'].iloc[0]}"):
        run(SECTION, COMMON, **{**inputs, "classifiers": tmp_path / "classifiers"}, out=tmp_path)
    assert not (tmp_path / "predictions").exists()


def test_gaps_between_groups_are_recorded_with_interval_and_number(tmp_path: Path) -> None:
    rng, record = np.random.default_rng(0), Record(tmp_path)
    truth, sex = rng.integers(0, 7, 400), np.array(["woman", "man"])[np.arange(400) // 10 % 2]
    wrong = (sex == "man") & (rng.random(400) < 0.4)
    probabilities = np.eye(7)[np.where(wrong, (truth + 1) % 7, truth)]
    rows = pd.DataFrame({"sample_id": [f"face-{row}" for row in range(400)], "identity": [f"person-{row // 10}" for row in range(400)]})
    rows = rows.assign(attr_sex=sex, attr_age=["young", *["elderly"] * 399], attr_skin=None)
    record_gaps(group_gaps(truth, probabilities, rows, resamples=100), record, prefix="classifiers/real/gap", title="Groups")
    (key, metric), (by_chance, _) = record.metrics.items()
    assert (key, by_chance) == ("classifiers/real/gap/sex", "classifiers/real/gap_by_chance/sex")
    assert metric.value == pytest.approx(-0.4, abs=0.1)
    assert (metric.n, metric.high < 0) == (400, True)
    assert record.tables[0].rows[0][1].startswith("man: ")


def test_a_person_in_development_and_test_stops_everything(inputs: dict[str, Path], tmp_path: Path) -> None:
    frame = read_manifest(inputs["development"])
    stranger = read_manifest(inputs["test"])["identity"].iloc[0]
    write_manifest(frame.assign(identity=[stranger, *frame["identity"].iloc[1:]]), tmp_path / "development")
    with pytest.raises(CorpusError, match=f"{stranger} is in test and train"):
        run(SECTION, COMMON, **{**inputs, "development": tmp_path / "development"}, out=tmp_path)


def test_a_judge_that_knows_the_generators_people_stops_the_evaluation(inputs: dict[str, Path], tmp_path: Path) -> None:
    person = load(inputs["fer_models"] / "judge").card["trained_on"]["identities"][0].split("..")[0]
    write_json(tmp_path / "generator" / ROLE, {"sha256": "0" * 64, "identities": [person]})
    with pytest.raises(RoleConflict, match=f"the generator share 1 training identities, for example {person}"):
        run(SECTION, COMMON, **{**inputs, "generator": tmp_path / "generator"}, out=tmp_path)


def test_a_judge_that_knows_the_latent_guides_people_stops_the_evaluation(inputs: dict[str, Path], tmp_path: Path) -> None:
    person = load(inputs["fer_models"] / "judge").card["trained_on"]["identities"][0].split("..")[0]
    shutil.copytree(inputs["generator"], tmp_path / "generator")
    network = LatentNetwork(7, channels=8, size=8, width=16)
    card = {"trained_on": {"images": 1, "identities": [person]}}
    save_latent_guide(network, tmp_path / "generator" / "backbone" / GUIDE, classes=DEFAULT_EXPRESSIONS, vae=tiny_autoencoder(), card=card)
    with pytest.raises(RoleConflict, match=f"the latent guide share 1 training identities, for example {person}"):
        run(SECTION, COMMON, **{**inputs, "generator": tmp_path / "generator"}, out=tmp_path)
