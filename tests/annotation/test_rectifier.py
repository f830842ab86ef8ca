import numpy as np
import pytest

from synfer.annotation.calibration import AnnotationError
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
    assert np.array_equal(found.posterior, found.pool(members))
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
