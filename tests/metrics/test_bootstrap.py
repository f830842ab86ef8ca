"""The matrix bootstrap against a loop that really draws rows, its coverage, and paired differences."""

import numpy as np
import pytest

from synfer.metrics.bootstrap import difference, interval, mean_interval, resampled
from synfer.metrics.classification import ACCURACY, METRICS, UAR


def predictions(rows: int, seed: int, *, skill: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, rows)
    logits = rng.normal(size=(rows, 5)) + skill * np.eye(5)[truth]
    return truth, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize("name", METRICS)
def test_agrees_with_drawing_rows_one_by_one(name: str) -> None:
    truth, probabilities = predictions(150, seed=0)
    found = interval(METRICS[name], truth, probabilities, resamples=4000)
    rng = np.random.default_rng(1)
    drawn = [rng.integers(0, 150, 150) for _ in range(1500)]
    low, high = np.percentile([METRICS[name](truth[rows], probabilities[rows]) for rows in drawn], [2.5, 97.5])
    width = high - low
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * width)
    assert found.value == METRICS[name](truth, probabilities)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for trial in range(200):
        found = mean_interval((rng.random(120) < 0.8).astype(float), resamples=400, confidence=0.9, seed=trial)
        hits += found.low <= 0.8 <= found.high
    assert 0.83 <= hits / 200 <= 0.96


def test_seeded_and_narrower_with_more_rows() -> None:
    few, many = (interval(UAR, *predictions(rows, seed=3), seed=7) for rows in (100, 1600))
    assert few == interval(UAR, *predictions(100, seed=3), seed=7)
    assert (many.high - many.low) < 0.5 * (few.high - few.low)
    assert (few.n, many.n) == (100, 1600)


def test_chunks_do_not_change_the_size_of_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, probabilities = predictions(100, seed=4)
    whole = interval(ACCURACY, truth, probabilities, resamples=500)
    monkeypatch.setattr("synfer.metrics.bootstrap._CHUNK", 1000)
    assert interval(ACCURACY, truth, probabilities, resamples=500) == whole


def test_difference_of_a_prediction_with_itself_is_nothing() -> None:
    truth, probabilities = predictions(90, seed=5)
    found = difference(UAR, truth, probabilities, probabilities)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert not found.excludes_zero


def test_pairing_sees_a_small_difference_that_two_intervals_hide() -> None:
    truth, good = predictions(800, seed=6, skill=2.0)
    worse = good.copy()
    spoiled = np.flatnonzero(good.argmax(1) == truth)[:20]
    worse[spoiled] = np.roll(good[spoiled], 1, axis=1)
    found = difference(ACCURACY, truth, good, worse)
    ours, theirs = interval(ACCURACY, truth, good), interval(ACCURACY, truth, worse)
    assert found.excludes_zero
    assert found.value == pytest.approx(20 / 800)
    assert ours.low < theirs.high


def test_any_statistic_has_the_interval_that_sums_have() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, 80)
    mean, median = resampled(lambda rows: np.array([values[rows].mean(), np.median(values[rows])]), 80, resamples=2000)
    by_sums = mean_interval(values, resamples=2000, seed=1)
    assert (mean.value, mean.n) == (by_sums.value, 80)
    assert [mean.low, mean.high] == pytest.approx([by_sums.low, by_sums.high], abs=0.03)
    assert median.value == np.median(values)
    assert median.low < median.value < median.high


def test_no_rows_have_no_mean() -> None:
    assert mean_interval(np.zeros(0)).n == 0
