"""Intervals over faces and trainings together: one training is the plain bootstrap, lucky trainings widen it, pairs are paired."""

from __future__ import annotations

import numpy as np
import pytest

from synfer.metrics.bootstrap import difference, interval
from synfer.metrics.classification import ACCURACY, UAR, MetricError
from synfer.metrics.repeats import choices_as_probabilities, repeated_difference, repeated_interval, repeated_share, share_difference

K, N = 4, 300
RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, K, N)


def trainings(error: list[float]) -> np.ndarray:
    """Probabilities (S, N, K) of trainings that err on these shares of the faces."""
    rng = np.random.default_rng(1)
    choices = np.stack([np.where(rng.random(N) < share, (TRUTH + 1) % K, TRUTH) for share in error])
    return choices_as_probabilities(choices, K)


@pytest.mark.parametrize("metric", [ACCURACY, UAR], ids=lambda metric: metric.name)
def test_with_one_training_it_is_the_bootstrap_over_faces(metric) -> None:
    ours, theirs = trainings([0.3]), trainings([0.5])
    found, plain = repeated_interval(metric, TRUTH, ours, resamples=4000), interval(metric, TRUTH, ours[0], resamples=4000)
    assert found.value == plain.value
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.005)
    gap, plain_gap = repeated_difference(metric, TRUTH, ours, theirs), difference(metric, TRUTH, ours[0], theirs[0])
    assert gap.value == pytest.approx(plain_gap.value)
    assert (gap.low, gap.high) == pytest.approx((plain_gap.low, plain_gap.high), abs=0.01)


def test_the_value_is_the_mean_over_trainings_and_their_spread_counts() -> None:
    steady, lucky = trainings([0.3, 0.3, 0.3]), trainings([0.05, 0.3, 0.55])
    a, b = (repeated_interval(UAR, TRUTH, each) for each in (steady, lucky))
    assert a.value == pytest.approx(np.mean([UAR(TRUTH, table) for table in steady]))
    assert b.high - b.low > 3 * (a.high - a.low)


def test_uar_is_the_mean_recall_over_trainings() -> None:
    truth, choices = np.array([0, 0, 0, 1]), np.array([[0, 0, 0, 0], [0, 0, 1, 1]])
    assert repeated_interval(UAR, truth, choices_as_probabilities(choices, 2)).value == pytest.approx(((1 + 0) / 2 + (2 / 3 + 1) / 2) / 2)


def test_equal_predictions_differ_by_exactly_nothing() -> None:
    same = trainings([0.2, 0.4])
    gap = repeated_difference(UAR, TRUTH, same, same)
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)
    assert not gap.excludes_zero


def test_a_pair_that_shares_its_luck_has_a_narrow_interval() -> None:
    base = trainings([0.2, 0.3, 0.5])
    better = base.copy()
    better[:, :90] = np.eye(K)[TRUTH[:90]]  # the same trainings, never wrong on the first ninety faces
    assert repeated_difference(ACCURACY, TRUTH, better, base).low > 0
    apart = repeated_interval(ACCURACY, TRUTH, better).low, repeated_interval(ACCURACY, TRUTH, base).high
    assert apart[0] < apart[1]


def test_people_are_drawn_where_faces_show_the_same_ones() -> None:
    people = np.arange(N) // 30  # ten people of thirty faces; each is either always right or always wrong
    right = np.where(people % 2 == 0, TRUTH, (TRUTH + 1) % K)
    table = choices_as_probabilities(right[None], K)
    alone, by_person = repeated_interval(ACCURACY, TRUTH, table), repeated_interval(ACCURACY, TRUTH, table, groups=people)
    assert by_person.high - by_person.low > 3 * (alone.high - alone.low)
    assert by_person.n == N


def test_shares_of_faces_that_were_asked_unequally_often() -> None:
    rng = np.random.default_rng(2)
    asked = np.tile(rng.integers(0, 5, 400), (3, 1))
    hits = rng.binomial(asked, 0.3)
    found = repeated_share(hits, asked)
    assert found.value == pytest.approx((hits.sum(1) / asked.sum(1)).mean())
    assert found.low < found.value < found.high
    assert found.n == (asked[0] > 0).sum()
    assert share_difference((np.minimum(hits + 1, asked), asked), (hits, asked)).low > 0
    same = share_difference((hits, asked), (hits, asked))
    assert (same.low, same.high) == (0, 0)


def test_a_face_that_is_asked_often_is_still_one_face() -> None:
    right = np.arange(40) % 2 == 0
    once, often = np.ones((1, 40), int), np.full((1, 40), 50)
    one, many = (repeated_share(asked * right, asked) for asked in (once, often))
    assert (one.low, one.high) == (many.low, many.high)


def test_few_trainings_count_with_their_whole_variance() -> None:
    asked = np.ones((2, 50))
    hits = np.stack([np.zeros(50), np.ones(50)])  # no chance but that of training: variance 1 / 2 of one, 1 / 4 of the mean of two
    found = repeated_share(hits, asked, resamples=4000)
    half = np.sqrt(0.5)  # drawn are 0, 1/2, 1/2, 1, of variance 1 / 8; doubled
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half))


def test_what_does_not_fit_together_is_told() -> None:
    with pytest.raises(MetricError, match="must be \\(S, N, K\\)"):
        repeated_interval(UAR, TRUTH, trainings([0.1])[0])
    with pytest.raises(MetricError, match="the same trainings and faces"):
        repeated_difference(UAR, TRUTH, trainings([0.1, 0.1]), trainings([0.1]))
    with pytest.raises(MetricError, match="7 groups for 300 rows"):
        repeated_interval(UAR, TRUTH, trainings([0.1]), groups=range(7))
