"""Two runs are compared on the same images alone; a classifier is measured on what it has not met, and helped to make nothing of."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.classifier_scores import write_predictions
from components.embedded_corpus import write_corpus
from components.measure.comparison import compare
from components.measure.dataset import DatasetEvaluationError, check_replaceable, evaluate, open_model
from components.measure.predictions import PredictionsError, find_predictions, paired, read_predictions
from components.promotion.logged_model import log_classifier
from components.record import read_metrics, read_tables
from components.tracking import connect, log_record, pipeline_run, stage_run
from components.training_record import TrainingRecordError, write_training_record
from components.workspace import Workspace
from flows.cli import main
from synfer.classifiers.models import create, load, save
from synfer.config import Common, Evaluation
from synfer.manifest import read_manifest, write_manifest
from synfer.metrics.bootstrap import difference, interval
from synfer.metrics.classification import ACCURACY, UAR
from synfer.metrics.roles import RoleConflict

CLASSES = ("neutral", "happiness", "sadness")
SETTINGS: dict[str, Any] = {"resamples": 200, "confidence": 0.95, "seed": 0}
SECTION, COMMON = Evaluation(bootstrap=100), Common(image_size=32)


def write(path: Path, *, right: float, rows: int = 90, seed: int = 0, reverse: bool = False) -> Path:
    """Predictions of the given accuracy of the same 90 samples."""
    rng = np.random.default_rng(seed)
    truth = np.arange(rows) % 3
    guess = np.where(rng.random(rows) < right, truth, (truth + 1) % 3)
    table = np.eye(3)[guess] * 0.7 + 0.1
    order = np.arange(rows)[::-1] if reverse else np.arange(rows)
    columns = {"sample_id": np.array([f"face-{row:03d}" for row in range(rows)])[order], "truth": np.array(CLASSES)[truth][order]}
    write_predictions(path, columns, {"p": table[order]}, CLASSES)
    return path


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """The folder of an evaluation with two classifiers."""
    for name, right in (("real", 0.6), ("synthetic>real", 0.9)):
        write(tmp_path / "evaluation" / "predictions" / f"{name}.parquet", right=right, seed=len(name))
    for name in ("metrics.json", "tables.json"):
        (tmp_path / "evaluation" / name).write_text("{}" if name == "metrics.json" else "[]")
    return tmp_path / "evaluation"


def test_a_comparison_is_the_paired_bootstrap_of_both_files(evaluation: Path, workspace: Workspace, tmp_path: Path) -> None:
    ours, theirs = (find_predictions(f"{evaluation}:{name}", workspace) for name in ("synthetic>real", "real"))
    found = compare(ours, theirs, **SETTINGS)
    wanted = difference(UAR, ours.truth, ours.probabilities, theirs.probabilities, **SETTINGS)
    assert found.metrics["uar"].difference == wanted
    assert wanted.excludes_zero
    assert found.metrics["accuracy"].ours.value == ACCURACY(ours.truth, ours.probabilities)
    assert [row.ours.n for row in found.classes.values()] == [30, 30, 30]
    assert found.test.only_first - found.test.only_second == pytest.approx(90 * found.metrics["accuracy"].difference.value)
    written = json.loads(found.write(tmp_path / "comparison.json").read_text())
    assert written["metrics"]["uar"]["difference"]["low"] == wanted.low
    assert set(written["recall"]) == set(CLASSES)
    assert found.table()["verdict"].iloc[1] == "differs"


def test_a_comparison_is_over_people_where_the_predictions_name_them(tmp_path: Path) -> None:
    faces = {name: write(tmp_path / f"{name}.parquet", right=right) for name, right in (("a", 0.9), ("b", 0.6))}
    for path in faces.values():
        frame = pd.read_parquet(path).sort_values("sample_id", ascending=path.stem == "a")
        frame.assign(identity=[f"person-{name[5:7]}" for name in frame["sample_id"]]).to_parquet(path)
    first, second = (read_predictions(path, title=name) for name, path in faces.items())
    found = compare(first, second, **SETTINGS)
    people = [f"person-{row // 10:02d}" for row in range(90)]
    ours, theirs = paired(first, second)
    assert ours.people == theirs.people == tuple(people)
    wanted = difference(UAR, ours.truth, ours.probabilities, theirs.probabilities, groups=people, **SETTINGS)
    assert (found.people, found.metrics["uar"].difference) == (9, wanted)
    assert wanted != difference(UAR, ours.truth, ours.probabilities, theirs.probabilities, **SETTINGS)
    pd.read_parquet(faces["b"]).assign(identity="").to_parquet(faces["b"])
    nobody = read_predictions(faces["b"], title="b")
    assert compare(nobody, nobody, **SETTINGS).people is None


def test_the_order_of_rows_and_classes_does_not_matter(tmp_path: Path) -> None:
    first = read_predictions(write(tmp_path / "a.parquet", right=0.8), title="a")
    write(tmp_path / "b.parquet", right=0.8, reverse=True)
    frame = pd.read_parquet(tmp_path / "b.parquet")
    frame[["sample_id", "truth", "p_sadness", "p_neutral", "p_happiness"]].to_parquet(tmp_path / "b.parquet")
    same, other = paired(first, read_predictions(tmp_path / "b.parquet", title="b"))
    assert np.array_equal(same.probabilities, other.probabilities)
    assert compare(same, other, **SETTINGS).metrics["nll"].difference.value == 0


def test_only_the_same_images_with_the_same_truth_are_compared(tmp_path: Path) -> None:
    first = read_predictions(write(tmp_path / "a.parquet", right=0.8), title="a")
    fewer = read_predictions(write(tmp_path / "b.parquet", right=0.8, rows=80), title="b")
    with pytest.raises(PredictionsError, match=r"sample face-080 \(and 9 more\) is not in b; a has 90, b 80"):
        compare(first, fewer, **SETTINGS)
    frame = pd.read_parquet(tmp_path / "a.parquet")
    frame.loc[4, "truth"] = "sadness"
    frame.to_parquet(tmp_path / "c.parquet")
    with pytest.raises(PredictionsError, match="differs for 1 samples: face-004 is happiness in a, sadness in c"):
        compare(first, read_predictions(tmp_path / "c.parquet", title="c"), **SETTINGS)
    frame.rename(columns={"p_sadness": "p_anger"}).assign(truth="anger").to_parquet(tmp_path / "d.parquet")
    with pytest.raises(PredictionsError, match=r"class sadness \(and 0 more\) is not in d"):
        compare(first, read_predictions(tmp_path / "d.parquet", title="d"), **SETTINGS)


def test_predictions_of_a_run_are_found_below_its_parent(evaluation: Path, workspace: Workspace) -> None:
    with pipeline_run(workspace, "whole", parameters={}, tags={}) as run_id, stage_run(workspace, "evaluation", parameters={}):
        log_record(evaluation)
    found = find_predictions(f"{run_id}:synthetic>real", workspace)
    there = read_predictions(evaluation / "predictions" / "synthetic>real.parquet", title="")
    assert np.array_equal(found.probabilities, there.probabilities)
    with pytest.raises(PredictionsError, match="has logged no predictions"):
        find_predictions("0" * 32, workspace)


def test_what_cannot_be_found_is_named(evaluation: Path, workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="no predictions 'nothing'; name a Parquet file"):
        find_predictions("nothing", workspace)
    with pytest.raises(PredictionsError, match=f"name one: {evaluation}:real, {evaluation}:synthetic>real"):
        find_predictions(str(evaluation), workspace)
    with pytest.raises(PredictionsError, match=r"unknown training set 'reel'.*did you mean 'real'"):
        find_predictions(f"{evaluation}:reel", workspace)
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(PredictionsError, match="is not a readable Parquet file"):
        find_predictions(str(tmp_path / "text.parquet"), workspace)
    pd.DataFrame({"sample_id": ["a"], "intent": ["fear"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(PredictionsError, match="lacks truth; predictions have sample_id, truth, p_<class>; it has sample_id, intent"):
        find_predictions(str(tmp_path / "other.parquet"), workspace)


# --- a classifier on another dataset ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "faces"
    write_corpus(folder, identities=14, images_per_identity=7, size=32)
    return folder


@pytest.fixture
def model(dataset: Path, tmp_path: Path) -> Path:
    """An untrained classifier with contempt and without anger, that says it was trained on the training split."""
    frame = read_manifest(dataset)
    folder = tmp_path / "model"
    folder.mkdir()
    trained_on = write_training_record(folder, {"real": frame[frame["split"] == "train"]}, images=70)
    network = create("test_resnet", ("contempt", "neutral", "happiness", "sadness", "surprise", "fear", "disgust"), image_size=32)
    save(network, folder, {"trained_on": trained_on})
    return folder


def measure(model: Path, dataset: Path, out: Path, **options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"split": "test", "section": SECTION, "common": COMMON, "roles": None, "title": "model on faces", **options}
    return evaluate(model, dataset, out=out, **settings)


def test_a_classifier_is_measured_on_the_classes_that_both_know(model: Path, dataset: Path, tmp_path: Path, workspace: Workspace) -> None:
    found = measure(model, dataset, tmp_path / "out")
    rows = read_manifest(dataset).query("split == 'test' and true_expression != 'anger'")
    metrics = read_metrics(tmp_path / "out")
    assert metrics["uar"].n == found["uar"].n == len(rows)
    assert "recall/fear" in metrics
    left_out = next(table for table in read_tables(tmp_path / "out") if table.title == "Left out")
    assert "faces of anger are left out: the model does not know it" in left_out.rows[0][0]
    assert "may not answer contempt" in left_out.rows[1][0]
    predictions = find_predictions(str(tmp_path / "out"), workspace)
    assert predictions.classes == ("neutral", "happiness", "sadness", "surprise", "fear", "disgust")
    assert UAR(predictions.truth, predictions.probabilities) == found["uar"].value
    assert predictions.people == tuple(rows["identity"])
    by_person = interval(UAR, predictions.truth, predictions.probabilities, groups=predictions.people, resamples=100)
    assert (found["uar"].low, found["uar"].high) == (by_person.low, by_person.high)


def test_a_model_trained_on_the_splits_images_is_refused(model: Path, dataset: Path, tmp_path: Path) -> None:
    rows = read_manifest(dataset).query("split == 'train'")
    wanted = rf"was trained on {len(rows)} of the {len(rows)} images of .*split train.*{rows['sha256'].iloc[0][:12]}, used as real"
    with pytest.raises(TrainingRecordError, match=wanted):
        measure(model, dataset, tmp_path / "out", split="train")
    assert not (tmp_path / "out").exists()


def test_a_model_trained_on_the_splits_people_is_refused(model: Path, dataset: Path, tmp_path: Path) -> None:
    card = json.loads((model / "card.json").read_text())
    frame = read_manifest(dataset)
    person = frame.loc[frame["split"] == "test", "identity"].iloc[0]
    other = frame[frame["split"] == "train"].assign(identity=person)
    save(load(model).module, model, {**card, "trained_on": write_training_record(model, {"real": other}, images=7)})
    with pytest.raises(TrainingRecordError, match=f"was trained on images of 1 people of .*, for example {person}"):
        measure(model, dataset, tmp_path / "out")


def test_a_judge_of_generated_faces_must_have_had_no_part_in_them(model: Path, dataset: Path, tmp_path: Path) -> None:
    generated = tmp_path / "generated"
    frame = write_corpus(generated, identities=4, images_per_identity=7, size=32, seed=5)
    write_manifest(frame.assign(identity="", split="test", layout_from=""), generated)
    with pytest.raises(DatasetEvaluationError, match="which models helped to make them"):
        measure(model, generated, tmp_path / "out")
    roles = tmp_path / "roles"
    judge = create("test_resnet", CLASSES, image_size=32, seed=3)
    save(judge, roles / "judge", {"trained_on": {"images": 1, "identities": ["somebody"]}})
    save(load(model).module, roles / "guide", {"trained_on": {"images": 1, "identities": ["anybody"]}})
    with pytest.raises(RoleConflict, match=f"guide are the same model, sha256 {load(model).sha256}"):
        measure(model, generated, tmp_path / "out", roles=roles)
    found = measure(roles / "judge", generated, tmp_path / "out", roles=roles)
    assert found["uar"].n > 0


def test_an_unknown_split_and_other_classes_are_told(model: Path, dataset: Path, tmp_path: Path) -> None:
    write_manifest(read_manifest(dataset).query("split == 'train'"), tmp_path / "train_alone")
    with pytest.raises(DatasetEvaluationError, match=r"has no image in split 'test'; it has train \("):
        measure(model, tmp_path / "train_alone", tmp_path / "out")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    with pytest.raises(DatasetEvaluationError, match=r"holds notes\.txt, which is no earlier evaluation"):
        check_replaceable(tmp_path / "kept")


def test_a_registered_model_brings_its_training_record(model: Path, dataset: Path, workspace: Workspace, tmp_path: Path) -> None:
    connect(workspace)
    with stage_run(workspace, "registration", parameters={}):
        info = log_classifier(load(model), model, {})
    with open_model(info.model_uri, workspace) as folder:
        assert load(folder).sha256 == load(model).sha256
        with pytest.raises(TrainingRecordError, match="was trained on"):
            measure(folder, dataset, tmp_path / "out", split="train")


def test_the_commands_say_what_they_found(
    model: Path, dataset: Path, evaluation: Path, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(workspace.root)
    with pytest.raises(SystemExit) as status:
        main(["evaluate", str(model), str(dataset), "--out", str(tmp_path / "out"), "--set", "evaluation.bootstrap=50"])
    assert status.value.code in (0, None)
    assert "faces of anger are left out" in capsys.readouterr().out
    with pytest.raises(SystemExit) as status:
        main(["compare", f"{evaluation}:synthetic>real", f"{evaluation}:real", "--out", str(tmp_path / "comparison.json")])
    assert status.value.code in (0, None)
    assert "McNemar" in capsys.readouterr().out
    assert json.loads((tmp_path / "comparison.json").read_text())["n"] == 90
    with pytest.raises(SystemExit) as status:
        main(["evaluate", str(model), str(dataset), "--split", "train", "--out", str(tmp_path / "other")])
    assert status.value.code == 1
    assert "was trained on" in capsys.readouterr().err
