import numpy as np
import pytest

from synfer.annotation.calibration import AnnotationError
from synfer.annotation.pooling import RULES, fit_pool


def members(rng: np.random.Generator, n: int = 600, classes: int = 4) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Three members that see the same labels with independent errors, the first the best."""
    labels = rng.integers(0, classes, n)
    signal = np.eye(classes)[labels]
    return {f"m{i}": 3 * signal + rng.normal(0, 1.0 + i, (n, classes)) for i in range(3)}, labels


@pytest.mark.parametrize("rule", RULES)
def test_the_pool_does_not_depend_on_the_order_of_its_members(rule: str) -> None:
    scores, labels = members(np.random.default_rng(0))
    backwards = dict(reversed(scores.items()))
    assert np.array_equal(fit_pool(scores, labels, rule=rule)(scores), fit_pool(backwards, labels, rule=rule)(backwards))


@pytest.mark.parametrize("rule", RULES)
def test_the_pool_is_a_distribution_and_at_least_as_right_as_its_members(rule: str) -> None:
    scores, labels = members(np.random.default_rng(1))
    pooled = fit_pool(scores, labels, rule=rule)(scores)
    assert pooled.min() > 0
    assert pooled.sum(axis=1) == pytest.approx(1)
    average = np.mean([(s.argmax(axis=1) == labels).mean() for s in scores.values()])
    assert (pooled.argmax(axis=1) == labels).mean() > average


def test_the_logarithmic_pool_beats_every_member_and_the_mean_in_likelihood() -> None:
    scores, labels = members(np.random.default_rng(2), n=2000)
    rows = np.arange(len(labels))

    def loss(probabilities: np.ndarray) -> float:
        return float(-np.log(probabilities[rows, labels]).mean())

    pool = fit_pool(scores, labels)
    assert loss(pool(scores)) < loss(fit_pool(scores, labels, rule="mean")(scores))
    assert loss(pool(scores)) < min(loss(p) for p in pool.calibrated(scores).values())
    assert pool.weights["m0"] > pool.weights["m2"] >= 0


def test_a_member_named_twice_is_not_heard_twice() -> None:
    scores, labels = members(np.random.default_rng(3), n=2000)
    alone = fit_pool({"a": scores["m0"]}, labels)({"a": scores["m0"]})
    twice = {"a": scores["m0"], "b": scores["m0"]}
    assert np.abs(fit_pool(twice, labels)(twice) - alone).max() < 0.01


def test_majority_follows_the_votes_and_breaks_ties_by_the_mean() -> None:
    votes = np.log(np.array([[[0.6, 0.3, 0.1]], [[0.1, 0.8, 0.1]]]))
    pooled = RULES["majority"](np.exp(votes), np.ones(2) / 2)
    assert pooled[0].argmax() == 1
    assert pooled[0, 0] > pooled[0, 2]


def test_bad_pools_are_refused() -> None:
    scores, labels = members(np.random.default_rng(4))
    with pytest.raises(AnnotationError, match="unknown pooling rule 'log'"):
        fit_pool(scores, labels, rule="log")
    with pytest.raises(AnnotationError, match="was given"):
        fit_pool(scores, labels)({"m0": scores["m0"]})
