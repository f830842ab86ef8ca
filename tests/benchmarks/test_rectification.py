"""Rectification study: noise is what it says, rivals are played fairly, the judge is independent, refusals are told in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.rectification.__main__ import app, report
from benchmarks.rectification.downstream import Pictures, Recipe, downstream, gains, labels
from benchmarks.rectification.faces import FEATURES, Faces
from benchmarks.rectification.noise import CONFUSION, KINDS, SYMMETRIC, inject, wrong_labels
from benchmarks.rectification.report import as_json, errors_table, method_means, methods_table
from benchmarks.rectification.rivals import corrections, majority, ours, out_of_fold
from benchmarks.rectification.run_folder import RunFolder, StudyError
from benchmarks.rectification.trial import OURS, RATES, Summary, summary, trial
from components.workspace import Workspace
from synfer.annotation.rectifier import HeldOut
from synfer.classifiers.models import create, load, save
from synfer.config import Config, Rectification, load_config
from synfer.faces.face import draw_face
from synfer.faces.renderer import render
from synfer.manifest import read_manifest, write_manifest
from synfer.metrics.bootstrap import Interval
from synfer.metrics.roles import RoleConflict
from synfer.vocabulary import AU_COUNT
from synfer.vocabulary import DEFAULT_EXPRESSIONS as CLASSES

K = len(CLASSES)
SECTION = Rectification()


def world(rng: np.random.Generator, n: int, *, faces_of_a_person: int = 5) -> Faces:
    """Faces that three members see through noise, and features from which a classifier can be learned."""
    truth = rng.integers(0, K, n)
    members = {name: 2.6 * np.eye(K)[truth] + rng.normal(0, 0.9, (n, K)) for name in (FEATURES, "annotator_1", "FERAnno")}
    people = np.array([f"person-{row // faces_of_a_person:05d}" for row in range(n)])
    labels = inject(truth, 0.1, SYMMETRIC, classes=CLASSES, seed=n)
    return Faces(people, truth, labels, members, 2.6 * np.eye(K)[truth] + rng.normal(0, 0.8, (n, K)))


@pytest.fixture(scope="module")
def faces() -> Faces:
    return world(np.random.default_rng(0), 700)


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    val = world(np.random.default_rng(1), 700)
    return HeldOut(val.members, val.labels)


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_wanted_share_is_wrong_and_only_in_ways_of_its_kind(kind: str) -> None:
    truth = np.random.default_rng(2).integers(0, K, 1000)
    labels = inject(truth, 0.2, kind, classes=CLASSES, seed=3)
    assert (labels != truth).sum() == 200
    assert (wrong_labels(kind, CLASSES)[truth, labels][labels != truth] > 0).all()
    assert np.array_equal(labels, inject(truth, 0.2, kind, classes=CLASSES, seed=3))
    assert not np.array_equal(labels, inject(truth, 0.2, kind, classes=CLASSES, seed=4))


def test_expressions_are_confused_as_people_confuse_them() -> None:
    table = wrong_labels(CONFUSION, CLASSES)
    assert table.sum(axis=1) == pytest.approx(1)
    assert table[CLASSES.index("fear")].argmax() == CLASSES.index("surprise")
    assert np.diag(wrong_labels(SYMMETRIC, CLASSES)) == pytest.approx(0)


def test_a_majority_of_the_members_replaces_the_label_and_a_split_vote_leaves_it() -> None:
    choices = np.array([[1, 1, 0], [1, 2, 0], [2, 3, 0]])
    assert majority(choices, np.array([4, 4, 4])).tolist() == [1, 4, 0]


def test_the_rival_predicts_nobody_from_labels_of_the_same_person(faces: Faces) -> None:
    given, everything = faces.truth.copy(), np.ones(len(faces), dtype=bool)
    mine = faces.identities == faces.identities[0]
    before = out_of_fold(faces, given, everything)
    given[mine] = (given[mine] + 1) % K
    assert out_of_fold(faces, given, everything)[mine] == pytest.approx(before[mine])
    assert (before.argmax(axis=1) == faces.truth).mean() > 0.8


def test_every_method_corrects_and_ours_leaves_least(faces: Faces, held_out: HeldOut) -> None:
    given = inject(faces.truth, 0.2, SYMMETRIC, classes=CLASSES, seed=0)
    found = corrections(faces, given, held_out, classes=CLASSES, section=SECTION, seed=0)
    error = {name: float((correction.labels != faces.truth).mean()) for name, correction in found.items()}
    assert error["nothing"] == pytest.approx(0.2)
    assert all(error[name] < 0.2 for name in error if name != "nothing")
    assert error[OURS] <= min(error.values()) + 1.5 / len(faces)  # a single face is no difference
    pruned = found["cleanlab"]
    assert (given != faces.truth)[~pruned.used].mean() > 0.6


def test_ours_is_as_the_configuration_sets_it(faces: Faces, held_out: HeldOut) -> None:
    given = inject(faces.truth, 0.2, SYMMETRIC, classes=CLASSES, seed=0)
    section = Rectification(pool="mean", intent_strength=0.5, target_precision=0.99, min_coverage=0.7)
    found = ours(faces, given, held_out, classes=CLASSES, section=section, seed=0)
    assert (found.pool.rule, found.intent_strength, found.thresholds.target) == ("mean", 0.5, 0.99)
    assert found.thresholds.coverage >= 0.7


def test_a_part_run_alone_keeps_the_figures_of_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def value(number: float) -> Interval:
        return Interval(number, number, number, 9)

    report({"intent_error": value(0.1), "ece": value(0.2)}, [], {}, None, tmp_path)
    report({"ece": value(0.3)}, [], {}, None, tmp_path)
    assert json.loads((tmp_path / "rectification.json").read_text()) == {"intent_error": 0.1, "ece": 0.3}
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"ece": 0.3}


def test_a_trial_knows_what_is_wrong_and_finds_the_rate_that_nobody_told(faces: Faces, held_out: HeldOut) -> None:
    found = [trial(faces, held_out, kind, rate, 0, classes=CLASSES, section=SECTION) for kind in KINDS for rate in RATES]
    for one in found:
        assert one.before.mean() == pytest.approx(one.rate, abs=0.001)
        assert one.estimated == pytest.approx(one.rate, abs=0.04)
        assert one.figures.set_index("method").loc[OURS, "after"] == pytest.approx(one.after[OURS].mean())
    keys = summary(found, faces)
    assert keys["error_before_20"].value == pytest.approx(0.2, abs=0.001)
    assert keys["reduction_20"].value == pytest.approx(1 - keys["error_after_20"].value / keys["error_before_20"].value)
    assert keys["more_than_mean_vote_20"].value == pytest.approx(keys["error_after_20"].value - keys["mean_vote_after_20"].value)
    assert keys["precision_test_strict"].value >= keys["precision_test"].value
    for one in found:
        assert (~np.isnan(one.surest)).sum() == one.used["cleanlab"].sum()
    assert keys["error_after_as_cleanlab_pruned_20"].value <= keys["error_after_20"].value
    flat = as_json(keys)
    assert "noise_found_20" in flat and "noise_found_20_low" not in flat
    assert flat["vote_after_40"] == flat["mean_vote_after_40"]
    wanted = {f"{name}_{rate}" for name in ("error_before", "error_after", "cleanlab_after", "vote_after") for rate in (10, 20, 40)}
    assert wanted <= set(flat)
    assert len(methods_table(found).rows) == len(errors_table(found).rows) == len(found[0].after)
    assert method_means(found)[("nothing", SYMMETRIC, 0.4)]["after"] == pytest.approx(0.4)


def test_intervals_resample_people_and_leave_rejected_faces_out() -> None:
    over = Summary(np.repeat(np.arange(20), 10))
    wrong = np.repeat(np.arange(20) % 2, 10).astype(float)  # half of the people are wrong throughout
    found = over.mean([wrong])
    assert found.value == pytest.approx(0.5)
    assert found.high - found.low > 0.3  # faces alone would give 0.14
    assert over.mean([np.where(wrong == 1, np.nan, 0.0)]).value == 0
    same = over.difference([wrong], [wrong])
    assert (same.value, same.low, same.high) == (0, 0, 0)


# --- the judge --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """What a finished run has left of its roles."""
    place = Workspace(tmp_path_factory.mktemp("run"))
    for number, role in enumerate(("guide", FEATURES, "judge")):
        card = {"trained_on": {"images": 1, "identities": [f"person-{number:05d}"]}}
        save(create("resnet10t", CLASSES, image_size=32, seed=number), place.stage("fer_models") / role, card)
    rows = pd.DataFrame({"sample_id": [f"face-{row}" for row in range(8)], "split": ["train"] * 6 + ["val"] * 2, "expression": "anger"})
    rows = rows.assign(identity=[f"person-{100 + row:05d}" for row in range(8)], caption="", seed=0, sha256="", true_expression="anger")
    rows["aus"] = [np.zeros(AU_COUNT, np.float32)] * 8
    write_manifest(rows, place.stage("corpus") / "development")
    for stage, card in (("feranno", {"sha256": "f" * 64, "trained_on": 4}), ("generator/backbone", {})):
        (place.artifacts / stage).mkdir(parents=True)
        (place.artifacts / stage / "card.json").write_text(json.dumps(card))
    config = load_config(root / "params.yaml")
    return RunFolder(place.artifacts, config.model_copy(update={"feranno": config.feranno.model_copy(update={"train_images": 4})}))


def test_a_judge_with_no_other_role_may_judge(run: RunFolder) -> None:
    assert run.independent_judge(run.stage("fer_models") / "judge").classes == CLASSES


@pytest.mark.parametrize("role", ["guide", FEATURES])
def test_a_judge_that_is_guide_or_annotator_stops_the_study_and_its_hash_is_named(run: RunFolder, role: str) -> None:
    folder = run.stage("fer_models") / role
    with pytest.raises(RoleConflict, match=load(folder).sha256):
        run.independent_judge(folder)


def test_a_judge_that_knows_people_of_the_corpus_is_refused(run: RunFolder, tmp_path: Path) -> None:
    card = {"trained_on": {"images": 1, "identities": ["person-00103"]}}
    digest = save(create("resnet10t", CLASSES, image_size=32, seed=9), tmp_path, card)
    with pytest.raises(RoleConflict, match=f"{digest}.*FERAnno share 1 training identities"):
        run.independent_judge(tmp_path)


def test_downstream_faces_are_those_that_no_member_has_learned_from(run: RunFolder) -> None:
    unseen = set(run.unseen_by_members()["sample_id"])
    assert len(unseen) == 2
    assert not unseen & set(run.learned_by_head()["sample_id"])
    for wanted, words in ((0, "configuration says 6"), (3, "configuration says 3")):
        config: Config = run.config.model_copy(update={"feranno": run.config.feranno.model_copy(update={"train_images": wanted})})
        with pytest.raises(StudyError, match=words):
            replace(run, config=config).unseen_by_members()


def test_the_head_learned_from_faces_whose_truth_is_no_class_and_annotators_from_people(run: RunFolder, tmp_path: Path) -> None:
    artifacts = Path(shutil.copytree(run.artifacts, tmp_path / "artifacts"))
    rows = read_manifest(artifacts / "corpus" / "development")
    learned = set(replace(run, artifacts=artifacts).learned_by_head()["sample_id"])
    write_manifest(rows.assign(true_expression=["contempt", *["anger"] * 7]), artifacts / "corpus" / "development")
    mine = replace(run, artifacts=artifacts)
    assert set(mine.learned_by_head()["sample_id"]) == learned  # the stage does not look at the truth
    unseen = mine.unseen_by_members()
    assert "contempt" not in set(unseen["true_expression"])
    for known, left in ((unseen["identity"].iloc[:1], len(unseen) - 1), (unseen["identity"], 0)):
        card = {"trained_on": {"images": 1, "identities": known.tolist()}}
        save(create("resnet10t", CLASSES, image_size=32, seed=1), artifacts / "fer_models" / FEATURES, card)
        if left:
            assert len(mine.unseen_by_members()) == left
    with pytest.raises(StudyError, match="annotators learned from the people"):
        mine.unseen_by_members()


# --- downstream -------------------------------------------------------------------------------------------------------------------


def test_every_arm_has_the_same_budget_and_targets_as_named(faces: Faces, held_out: HeldOut) -> None:
    arms = labels(faces, held_out, 0.2, 0, classes=CLASSES, section=SECTION)
    assert set(arms) == {"raw", "filtered", "hard", "soft"}
    wrong = {}
    for name, (rows, targets) in arms.items():
        assert len(rows) == len(faces)
        assert targets.sum(axis=1) == pytest.approx(1)
        wrong[name] = float((targets.argmax(axis=1) != faces.truth[rows]).mean())
    assert wrong["raw"] == pytest.approx(0.2, abs=0.001)
    assert max(wrong["hard"], wrong["soft"], wrong["filtered"]) < 0.1
    assert set(np.unique(arms["hard"][1])) == {0, 1}
    assert 0 < (arms["soft"][1].max(axis=1) < 0.9).sum() < 200
    natural = labels(faces, held_out, 0.0, 0, classes=CLASSES, section=SECTION)["raw"][1].argmax(axis=1)
    assert np.array_equal(natural, faces.labels)


def test_gains_are_paired(faces: Faces) -> None:
    perfect, poor = np.tile(faces.truth, (2, 1)), np.tile((faces.truth + (np.arange(len(faces)) % 4 == 0)) % K, (2, 1))
    found = gains({"raw_20": poor, "hard_20": perfect, "soft_20": poor}, faces)
    assert found["uar_hard_20"].value == 1
    assert found["gain_hard_20"].excludes_zero
    assert (found["gain_soft_20"].low, found["gain_soft_20"].high) == (0, 0)


def test_intervals_of_gains_hold_the_randomness_of_training(faces: Faces) -> None:
    wrong = (faces.truth + 1) % K
    lucky = {"raw_20": np.stack([wrong, faces.truth]), "hard_20": np.stack([faces.truth, wrong])}  # one training of two succeeds
    gain = gains(lucky, faces)["gain_hard_20"]
    assert gain.value == pytest.approx(0.0)
    assert gain.low < -0.9 and gain.high > 0.9


def test_a_study_that_was_cut_off_trains_nothing_twice(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    small = world(rng, 32)
    images = render([draw_face(row, identity=row, expression=CLASSES[label]) for row, label in enumerate(small.truth)], size=32)
    pictures, known = Pictures(small, images), HeldOut(small.members, small.labels)

    def study(rates: list[float]) -> dict[str, np.ndarray]:
        return downstream(
            pictures, pictures, pictures, known, classes=CLASSES, section=SECTION, seeds=1, recipe=Recipe(epochs=1), rates=rates,
            work=tmp_path,
        )  # fmt: skip

    first = study([0.2])
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = study([0.2, 0.4])
    assert len(written) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert set(again) - set(first) == {"raw_40", "filtered_40", "hard_40", "soft_40"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--parts", "noise,magic"], "unknown part 'magic'"), (["--rates", "ten"], "per cents such as"), ([], "the study needs a run")],
)
def test_what_cannot_be_run_is_told(in_workspace: Workspace, arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, StudyError)
    assert words in str(result.exception)
