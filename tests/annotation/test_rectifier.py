import numpy as np
import pytest

from synfer.annotation.calibration import AnnotationError, draw_classes, log_probabilities
from synfer.annotation.rectifier import HeldOut, rectify_labels
from synfer.annotation.rectify import ACTIONS

CLASSES = ("neutral", "happiness", "anger", "fear", "disgust")
K = len(CLASSES)


def faces(rng: np.random.Generator, n: int, *, haze: float = 0.9) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """True classes (N,) and two members' scores (N, K)."""
    truth = rng.integers(0, K, n)
    return truth, {f"annotator_{number}": 2.0 * np.eye(K)[truth] + rng.normal(0, haze, (n, K)) for number in range(2)}


def noisy(truth: np.ndarray, wrong: float, rng: np.random.Generator) -> np.ndarray:
    """Labels of which a share `wrong` is the next class."""
    return np.where(rng.random(len(truth)) < wrong, (truth + 1) % K, truth)


def test_given_labels_are_corrected_and_the_reasons_name_where_they_came_from() -> None:
    rng = np.random.default_rng(0)
    held_truth, held = faces(rng, 1500)
    truth, members = faces(rng, 3000)
    given = noisy(truth, 0.3, rng)
    found = rectify_labels(members, given, HeldOut(held, held_truth), classes=CLASSES, origin="given")
    assert (found.decisions.label == truth).mean() > max((given == truth).mean(), 0.93)
    assert found.noise is not None
    assert found.noise.wrong == pytest.approx(0.3, abs=0.03)
    relabelled = found.decisions.action == ACTIONS.index("relabel")
    assert relabelled.any()
    assert all(f"given was {CLASSES[given[row]]}" in found.reasons[row] for row in np.flatnonzero(relabelled))


def test_without_labels_the_pool_alone_decides_and_nothing_is_kept() -> None:
    rng = np.random.default_rng(1)
    held_truth, held = faces(rng, 1500)
    truth, members = faces(rng, 1000)
    found = rectify_labels(members, None, HeldOut(held, held_truth), classes=CLASSES)
    assert np.array_equal(found.posterior, found.pool.likelihood(members))
    assert (found.decisions.label == truth).mean() > 0.9
    assert found.noise is None
    assert found.simulated.given is None
    assert not (found.decisions.action == ACTIONS.index("keep")).any()
    assert all("no label came with it" in words for words in found.reasons)


def test_images_do_not_depend_on_the_order_they_come_in() -> None:
    rng = np.random.default_rng(2)
    held_truth, held = faces(rng, 500)
    truth, members = faces(rng, 400)
    given, order = noisy(truth, 0.2, rng), rng.permutation(400)
    forwards = rectify_labels(members, given, HeldOut(held, held_truth), classes=CLASSES)
    shuffled = rectify_labels(
        {name: scores[order] for name, scores in members.items()}, given[order], HeldOut(held, held_truth), classes=CLASSES
    )
    assert shuffled.posterior == pytest.approx(forwards.posterior[order], abs=1e-9)


def test_labels_of_other_images_are_refused() -> None:
    rng = np.random.default_rng(3)
    held_truth, held = faces(rng, 200)
    _, members = faces(rng, 50)
    with pytest.raises(AnnotationError, match="49 labels"):
        rectify_labels(members, np.zeros(49, dtype=int), HeldOut(held, held_truth), classes=CLASSES)


UNBALANCED = np.array([0.42, 0.31, 0.15, 0.08, 0.04])


def trained_faces(rng: np.random.Generator, n: int, shares: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """True classes (N,) of these shares, and what three members trained on unbalanced faces see: each holds that prior once."""
    truth = draw_classes(np.tile(shares, (n, 1)), rng)
    sharpness = {"a": 1.7, "b": 1.5, "c": 1.6}
    members = {name: s * (rng.normal(size=(n, K)) + s * np.eye(K)[truth]) + np.log(UNBALANCED) for name, s in sharpness.items()}
    return truth, members


@pytest.mark.parametrize("shares", [UNBALANCED, np.full(K, 1 / K), UNBALANCED[::-1]], ids=["as val", "uniform", "reversed"])
@pytest.mark.parametrize("plan", [True, False], ids=["generated", "given"])
def test_frequent_classes_of_val_are_not_preferred_among_other_faces(shares: np.ndarray, plan: bool) -> None:
    rng = np.random.default_rng(4)
    held_truth, held = trained_faces(rng, 2500, UNBALANCED)
    truth, members = trained_faces(rng, 4000, shares)
    held_out, given = HeldOut(held, noisy(held_truth, 0.1, rng)), noisy(truth, 0.2, rng)
    found = rectify_labels(members, given, held_out, classes=CLASSES, equal_margins=plan, target_precision=0.9)
    likelihood = sum((scores - np.log(UNBALANCED) for scores in members.values()), np.zeros((4000, K)))
    confusion = 0.8 * np.eye(K) + 0.2 * np.roll(np.eye(K), 1, axis=1)  # P(given | true)
    best = np.log(shares) + np.log(np.maximum(confusion[:, given].T, 1e-9))
    wrong, least = (float((choice != truth).mean()) for choice in (found.decisions.label, (likelihood + best).argmax(axis=1)))
    assert wrong < least + 0.015
    assert np.abs(found.pool.likelihood(members) - np.exp(log_probabilities(likelihood))).mean() < 0.02
    assert found.decisions.confidence.mean() == pytest.approx(1 - wrong, abs=0.015)


def test_an_image_without_a_label_among_labelled_ones_is_left_to_the_members() -> None:
    rng = np.random.default_rng(4)
    held_truth, held = faces(rng, 500)
    truth, members = faces(rng, 400)
    given, none = noisy(truth, 0.2, rng), np.arange(400) % 4 == 0
    partly = rectify_labels(members, np.where(none, -1, given), HeldOut(held, held_truth), classes=CLASSES)
    assert np.array_equal(partly.posterior[none], partly.pool.likelihood(members)[none])
    assert not (partly.decisions.action[none] == ACTIONS.index("keep")).any()
    assert {"no label came with it" in partly.reasons[row] for row in np.flatnonzero(none & (partly.decisions.action != 0))} == {True}
    labelled_alone = rectify_labels(
        {name: scores[~none] for name, scores in members.items()}, given[~none], HeldOut(held, held_truth), classes=CLASSES
    )
    assert partly.posterior[~none] == pytest.approx(labelled_alone.posterior)
