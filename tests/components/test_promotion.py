"""Promotion: the gate sees what got worse, the place of champion passes on and back, and nothing is told twice."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest

from components import tracking
from components.promotion.gate import Scored, check_scores, compare
from components.promotion.registry import CHALLENGER, CHAMPION, PREVIOUS, PromotionError, Registry
from components.promotion.serve import environment
from components.workspace import Workspace
from synfer.config import Registration
from synfer.metrics.classification import UAR

CLASSES = ("neutral", "happiness", "fear")
TRUTH = np.repeat([0, 1, 2], 100)


def scored(version: str, hits: tuple[float, float, float]) -> Scored:
    """A classifier that is right in the given share of each class, and takes the next class otherwise."""
    guess = TRUTH.copy()
    for index, share in enumerate(hits):
        missed = np.flatnonzero(index == TRUTH)[round(100 * share) :]
        guess[missed] = (index + 1) % 3
    return Scored(version, np.eye(3)[guess] * 0.9 + 0.1 / 3)


def failed(section: Registration, challenger: Scored, champion: Scored) -> dict[str, str]:
    findings = compare(section, TRUTH, challenger, champion, classes=CLASSES, resamples=200, seed=0)
    return {finding.rule: finding.reason for finding in findings if not finding.passed}


def test_the_gate_names_the_class_that_fell_though_the_mean_rose() -> None:
    found = failed(Registration(), scored("2", (0.95, 0.95, 0.6)), scored("1", (0.7, 0.7, 0.8)))
    assert list(found) == ["max_class_drop"]
    assert "fear -0.200 (" in found["max_class_drop"]
    assert "happiness" not in found["max_class_drop"]


def test_the_gate_lets_noise_of_one_class_pass_and_stops_a_lower_mean() -> None:
    champion = scored("1", (0.8, 0.8, 0.8))
    assert failed(Registration(max_class_drop=0.005), scored("2", (0.85, 0.85, 0.79)), champion) == {}
    assert list(failed(Registration(), scored("2", (0.77, 0.78, 0.79)), champion)) == ["max_uar_drop"]
    assert failed(Registration(max_uar_drop=0.05), scored("2", (0.77, 0.78, 0.79)), champion) == {}


def test_the_lowest_change_is_told_though_no_class_has_fallen() -> None:
    rivals = scored("2", (0.85, 0.85, 0.79)), scored("1", (0.8, 0.8, 0.8))
    told = {finding.rule: finding for finding in compare(Registration(), TRUTH, *rivals, classes=CLASSES, resamples=200, seed=0)}
    assert told["max_class_drop"].passed
    assert "; the lowest change is fear -0.010 (" in told["max_class_drop"].reason


def test_equally_good_trainings_that_differ_by_chance_are_let_pass() -> None:
    rng = np.random.default_rng(4)
    champion, other = (np.where(rng.random(300) < 0.8, TRUTH, (TRUTH + 1) % 3) for _ in range(2))
    rivals = [Scored(name, np.eye(3)[guess]) for name, guess in (("2", other), ("1", champion))]
    if UAR(TRUTH, rivals[0].probabilities) > UAR(TRUTH, rivals[1].probabilities):
        rivals.reverse()
    section = Registration(max_uar_drop=0.001, max_class_drop=1.0)
    (uar, _) = compare(section, TRUTH, *rivals, classes=CLASSES, resamples=200, seed=0)
    assert uar.passed
    assert ": -0.0" in uar.reason.replace(" is ", ": ")
    people = [str(row // 100) for row in range(300)]  # of three people nobody can say that they read all others worse
    worse = scored("2", (0.7, 0.8, 0.8)), scored("1", (0.8, 0.8, 0.8))
    by_face, by_person = (compare(section, TRUTH, *worse, classes=CLASSES, people=who, resamples=200, seed=0)[0] for who in (None, people))
    assert (by_face.passed, by_person.passed) == (False, True)


def test_the_minimum_scores_are_told_with_their_intervals() -> None:
    low, sure = check_scores(Registration(min_uar=0.9, max_ece=0.5), TRUTH, scored("1", (0.8, 0.8, 0.8)), resamples=200, seed=0)
    assert (low.passed, sure.passed) == (False, True)
    assert low.reason.startswith("UAR is 0.800 (0.7")


@pytest.fixture
def registry(tracked_workspace: Workspace) -> Registry:
    """A model with three versions; the gate let 1 and 2 pass."""
    found = Registry(tracked_workspace, "faces")
    found.client.create_registered_model("faces")
    with mlflow.start_run() as run:
        for number in ("1", "2", "3"):
            found.client.create_model_version("faces", source=f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
            found.client.set_model_version_tag("faces", number, "gate", "failed" if number == "3" else "passed")
    found.client.set_model_version_tag("faces", "3", "gate.reason", "UAR is 0.2")
    found.crown("1")
    found.challenge("2")
    return found


def aliases(registry: Registry) -> dict[str, str]:
    return {alias: str(number) for alias, number in registry.client.get_registered_model("faces").aliases.items()}


def test_the_place_passes_to_the_challenger_and_back(registry: Registry) -> None:
    done = registry.promote(by="Ada")
    assert (done.champion, done.over, done.by) == ("2", "1", "Ada")
    assert aliases(registry) == {CHAMPION: "2", PREVIOUS: "1"}, "who is champion is no challenger any more"
    back = registry.rollback(by="Ada", why="too many false alarms")
    assert (back.champion, back.over) == ("1", "2")
    assert aliases(registry) == {CHAMPION: "1"}
    assert registry.version("2").tags["rolled_back"].endswith("by Ada: too many false alarms")
    assert registry.version("1").tags["promoted"].endswith("over version 2: rollback (too many false alarms)")
    with pytest.raises(PromotionError, match="faces has had no champion before; versions: 1, 2, 3"):
        registry.rollback()


def test_what_the_gate_held_back_needs_a_reason(registry: Registry) -> None:
    with pytest.raises(PromotionError, match=r"the gate held version 3 of faces back \(UAR is 0.2\)"):
        registry.promote("3")
    assert aliases(registry)[CHAMPION] == "1"
    registry.promote("3", force="a new camera")
    assert registry.version("3").tags["promoted"].endswith("over version 1: a new camera")


def test_an_alias_that_was_moved_by_hand_is_completed_once_and_told_once(registry: Registry) -> None:
    registry.mark_announced("1")
    assert registry.hand_over() is None
    assert registry.unannounced() == {}
    registry.client.set_registered_model_alias("faces", CHAMPION, "2")  # what MLflow's browser does
    done = registry.hand_over()
    assert done is not None
    assert (done.champion, done.over, done.by) == ("2", "1", "MLflow's browser")
    assert aliases(registry) == {CHAMPION: "2", PREVIOUS: "1"}
    assert registry.hand_over() is None
    told = registry.unannounced()
    assert told == {"model": "faces", "version": "2", "uri": "models:/faces@champion", "previous": "1", "history": "1,2"}
    registry.promote("3", force="between the event and its mark")
    registry.mark_announced(told["history"])
    assert registry.unannounced()["version"] == "3"
    registry.mark_announced(registry.unannounced()["history"])
    assert registry.unannounced() == {}
    registry.rollback()
    assert registry.unannounced()["version"] == "2", "a way back is told too"


def test_an_alias_that_was_moved_back_by_hand_is_a_rollback(registry: Registry) -> None:
    registry.promote("2", by="Ada")
    registry.mark_announced("1,2")
    registry.client.set_registered_model_alias("faces", CHAMPION, "1")
    done = registry.hand_over()
    assert done is not None
    assert (done.champion, done.over, done.why) == ("1", "2", "rollback (the alias was moved back)")
    assert aliases(registry) == {CHAMPION: "1"}, "who was rolled back is not who a rollback would bring back"
    assert registry.version("2").tags["rolled_back"].endswith("by MLflow's browser: the alias was moved back")
    assert registry.unannounced()["version"] == "1"


def test_a_way_back_and_a_promotion_count_an_alias_that_was_moved_by_hand_and_not_seen_yet(registry: Registry) -> None:
    registry.promote("2")
    registry.client.set_registered_model_alias("faces", CHAMPION, "3")
    back = registry.rollback(by="Ada")
    assert (back.champion, back.over, registry.history()) == ("2", "3", ["1", "2"])
    assert "rolled_back" in registry.version("3").tags and "rolled_back" not in registry.version("2").tags
    registry.client.set_registered_model_alias("faces", CHAMPION, "3")
    done = registry.promote("1")
    assert (done.champion, done.over, registry.history()) == ("1", "3", ["1", "2", "3", "1"])
    assert registry.version("3").tags["promoted"].endswith("by MLflow's browser over version 2: the alias was moved")
    registry.client.set_registered_model_alias("faces", CHAMPION, "3")  # as a rollback that was killed leaves it
    assert (registry.rollback().over, registry.history()) == ("1", ["1", "2", "3"])


def test_a_hand_over_leaves_a_run_with_its_record(registry: Registry, tmp_path: Path) -> None:
    registry.promote("2", by="Ada")
    experiment = mlflow.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    runs = registry.client.search_runs([experiment.experiment_id], "tags.stage = 'promotion' and tags.champion = '2'")
    path = mlflow.artifacts.download_artifacts(run_id=runs[0].info.run_id, artifact_path="hand_over.json", dst_path=str(tmp_path))
    assert json.loads(Path(path).read_text())["over"] == "1"


def test_a_server_of_the_model_has_the_project_s_database_whatever_its_own_variable_says(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    assert environment(workspace)["MLFLOW_TRACKING_URI"] == tracking.store_uri(workspace)


def test_unknown_models_and_versions_are_told_with_the_known_ones(registry: Registry) -> None:
    with pytest.raises(PromotionError, match="there is no registered model 'cats'; known: faces"):
        Registry(registry.workspace, "cats").promote()
    with pytest.raises(PromotionError, match="faces has no version '7'; there are: 1, 2, 3"):
        registry.promote("7")
    assert registry.holder(CHALLENGER) == "2"
