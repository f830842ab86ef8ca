"""The matrix bootstrap against a loop that really draws rows, its coverage, and paired differences."""

import numpy as np
import pytest

from synfer.metrics.bootstrap import difference, interval, mean_interval, resampled
from synfer.metrics.classification import ACCURACY, ECE, METRICS, UAR, MetricError, recall_of
from synfer.metrics.proportions import proportion
from synfer.metrics.repeats import repeated_difference, repeated_interval


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
    if name == "ece":
        value = ECE(truth, probabilities)
        low, high = max(2 * value - high, 0), 2 * value - low
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


@pytest.mark.parametrize("hits", [0, 1, 99, 100])
def test_a_share_of_almost_all_or_nothing_has_an_interval(hits: int) -> None:
    right, truth = np.arange(100) < hits, np.repeat([0, 1], [100, 40])
    probabilities = np.eye(3)[np.where(np.concatenate([right, np.ones(40, bool)]), truth, 2)]
    wanted = proportion(hits, 100)
    for found in (mean_interval(right.astype(float)), interval(recall_of(0), truth, probabilities)):
        assert found.value == hits / 100
        assert found.low <= wanted.low < wanted.high <= found.high
    alone = interval(ACCURACY, truth[:100], probabilities[:100])
    assert alone.low <= wanted.low < wanted.high <= alone.high


def test_shares_in_the_middle_and_means_of_other_values_are_resampled_alone() -> None:
    values = np.concatenate([np.full(90, 0.9), np.zeros(10)])
    sure = mean_interval(np.full(50, 0.9))
    assert (sure.low, sure.high) == pytest.approx((0.9, 0.9))
    assert mean_interval(values / 0.9).low == pytest.approx(mean_interval(values).low / 0.9)


def test_a_class_that_nobody_shows_has_no_recall() -> None:
    assert np.isnan(interval(recall_of(2), np.array([0, 1]), np.eye(3)[:2]).low)


def calibrated(rows: int, seed: int, *, too_sure: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Truth, probabilities whose confidence is too high by `too_sure` in every row, and the calibration error that they have."""
    rng = np.random.default_rng(seed)
    right = rng.uniform(0.45, 0.85, rows)
    confidence = right + too_sure
    truth = np.where(rng.random(rows) < right, 0, rng.integers(1, 7, rows))
    return truth, np.column_stack([confidence, np.tile((1 - confidence)[:, None] / 6, 6)]), too_sure


@pytest.mark.parametrize(("too_sure", "least"), [(0.0, 0.45), (0.1, 0.8)])
def test_the_interval_of_the_calibration_error_does_not_begin_at_its_value(too_sure: float, least: float) -> None:
    hits = []
    for trial in range(40):
        truth, probabilities, wanted = calibrated(900, trial, too_sure=too_sure)
        found = interval(ECE, truth, probabilities, resamples=200, seed=trial)
        hits.append(found.low <= wanted <= found.high)
        assert 0 <= found.low < found.value <= found.high
    assert np.mean(hits) >= least  # percentiles never hold an error of 0, which is what the bias leaves of them


def test_the_difference_of_two_calibration_errors_is_reflected_too() -> None:
    truth, good, _ = calibrated(900, 0, too_sure=0.0)
    found = difference(ECE, truth, calibrated(900, 0, too_sure=0.1)[1], good)
    assert found.low < found.value < found.high
    assert found.low > 0
    same = difference(ECE, truth, good, good)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_people_are_drawn_where_several_rows_show_the_same_ones() -> None:
    (truth, ours), (_, theirs) = predictions(60, seed=7), predictions(60, seed=8)
    truth, ours, theirs = (np.repeat(part, 10, axis=0) for part in (truth, ours, theirs))
    people = [f"person-{row // 10}" for row in range(600)]
    for name in ("uar", "nll"):
        by_person = interval(METRICS[name], truth, ours, groups=people)
        repeated = repeated_interval(METRICS[name], truth, ours[None], groups=people)
        assert [by_person.low, by_person.high] == pytest.approx([repeated.low, repeated.high])
        by_row = interval(METRICS[name], truth, ours)
        assert (by_person.value, by_person.n) == (pytest.approx(by_row.value), 600)
        assert by_person.high - by_person.low > 2 * (by_row.high - by_row.low)
    gap = difference(UAR, truth, ours, theirs, groups=people)
    repeated = repeated_difference(UAR, truth, ours[None], theirs[None], groups=people)
    assert [gap.value, gap.low, gap.high] == pytest.approx([repeated.value, repeated.low, repeated.high])
    with pytest.raises(MetricError, match="7 groups for 600 rows"):
        interval(UAR, truth, ours, groups=people[:7])


def test_hits_of_few_people_say_less_than_those_of_many() -> None:
    truth, people = np.zeros(100, int), np.arange(100) // 10
    found = interval(ACCURACY, truth, np.eye(2)[truth], groups=people)
    assert (found.value, found.high) == (1, 1)
    assert found.low == proportion(10, 10).low
