"""Percentile bootstrap over rows: the interval of a metric, and of the paired difference of two predictions of the same rows.

With `groups`, whom each row shows, people are drawn and not rows: several images of one person say less than as many people do.

Where nearly all rows are right, or nearly none, resamples hardly differ: of 100 hits in 100 images every one says 100 %. The interval of a
share with few hits or few misses is therefore at least Wilson's. A metric that few rows raise (the calibration error) is raised once more
in every resample, so that its value lies at the foot of their percentiles: its limits are reflected at the value, 2 v - high to 2 v - low
(the basic bootstrap, Davison and Hinkley 1997, section 5.2). The value keeps its bias: see `calibration.chance_ece`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synfer.metrics.classification import Metric, MetricError, check_predictions
from synfer.metrics.wilson import wilson

_CHUNK = 4_000_000  # counts drawn at once; bounds memory, not the result
_FEW = 10  # hits or misses below which a share's resamples say too little of its spread


@dataclass(frozen=True)
class Interval:
    """A value, the interval around it and the number of rows behind it."""

    value: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is outside its noise."""
        return self.low > 0 or self.high < 0


def interval(
    metric: Metric,
    truth: np.ndarray,
    probabilities: np.ndarray,
    *,
    groups: Sequence[object] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Metric over all rows with its percentile interval; `truth` int (N,), `probabilities` float (N, K), `groups` a name a row."""
    value, member = metric(truth, probabilities), membership(groups, len(truth))
    rows, classes = group_sums(metric.rows(truth, probabilities), member), probabilities.shape[1]
    values = np.concatenate([metric.combine(counts @ rows, classes) for counts in resample_counts(len(rows), resamples, seed)])
    found = percentiles(value, values, confidence, len(truth))
    if metric.biased:
        return reflected(found, least=0.0)
    if metric.of is None:
        return found
    rows_of = metric.of(truth)
    witnesses = int(rows_of.sum()) if member is None else len(np.unique(member[rows_of]))
    return _widened(found, int(rows_of.sum()), confidence, witnesses=witnesses)


def difference(
    metric: Metric,
    truth: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    *,
    groups: Sequence[object] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Metric of `ours` minus that of `theirs`, both float (N, K), with the interval over resamples of the rows, or groups, they share."""
    check_predictions(truth, theirs)
    value, classes = metric(truth, ours) - metric(truth, theirs), ours.shape[1]
    member = membership(groups, len(truth))
    rows_ours, rows_theirs = (group_sums(metric.rows(truth, one), member) for one in (ours, theirs))
    drawn = resample_counts(len(rows_ours), resamples, seed)
    values = [metric.combine(counts @ rows_ours, classes) - metric.combine(counts @ rows_theirs, classes) for counts in drawn]
    found = percentiles(value, np.concatenate(values), confidence, len(truth))
    return reflected(found) if metric.biased else found


def mean_interval(values: np.ndarray, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Mean of values (N,), such as a share of hits, with its percentile interval; NaN throughout when there are none.

    That of zeros and ones is a share, and widened where hits or misses are few.
    """
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    means = np.concatenate([counts @ values / len(values) for counts in resample_counts(len(values), resamples, seed)])
    found = percentiles(float(np.mean(values)), means, confidence, len(values))
    return _widened(found, len(values), confidence, witnesses=len(values)) if np.isin(values, (0, 1)).all() else found


def resampled(
    statistic: Callable[[np.ndarray], np.ndarray], count: int, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> list[Interval]:
    """Values (M,) of any statistic of row numbers int (count,), each with its interval.

    For what is no function of sums over rows, such as a rank correlation; slower than `interval`, which wants a `Metric`.
    """
    rng = np.random.default_rng(seed)
    values = statistic(np.arange(count))
    drawn = np.stack([statistic(rng.integers(0, count, count)) for _ in range(resamples)])
    return [percentiles(float(value), column, confidence, count) for value, column in zip(values, drawn.T, strict=True)]


def reflected(found: Interval, *, least: float = -np.inf) -> Interval:
    """The interval with its limits mirrored at the value, none below `least`; it holds the value, also where all resamples are above."""
    low, high = 2 * found.value - found.high, 2 * found.value - found.low
    return replace(found, low=max(min(low, found.value), least), high=max(high, found.value))


def membership(groups: Sequence[object] | None, rows: int) -> np.ndarray | None:
    """Number of the group of each row, int (N,) from 0 on; raises MetricError unless every row has one."""
    if groups is None:
        return None
    if len(groups) != rows:
        raise MetricError(f"{len(groups)} groups for {rows} rows; every row needs one")
    return np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)[1]


def group_sums(rows: np.ndarray, member: np.ndarray | None) -> np.ndarray:
    """Statistics (N, M) of the rows as those of the groups (G, M)."""
    if member is None:
        return rows
    sums = np.zeros((member.max() + 1, rows.shape[1]))
    np.add.at(sums, member, rows)
    return sums


def _widened(share: Interval, rows: int, confidence: float, *, witnesses: int) -> Interval:
    """At least Wilson's interval of as many witnesses (rows, or people), where few of the rows are hits, or few are misses."""
    hits = round(share.value * rows) if rows else 0
    if not rows or min(hits, rows - hits) >= _FEW:
        return share
    low, high = wilson(round(share.value * witnesses), witnesses, confidence=confidence)
    return replace(share, low=min(share.low, low), high=max(share.high, high))


def resample_counts(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each row is drawn, float (resamples, rows) in chunks; a resample of N rows with replacement is a multinomial draw."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // rows)
    for start in range(0, resamples, chunk):
        yield rng.multinomial(rows, np.full(rows, 1.0 / rows), size=min(chunk, resamples - start)).astype(np.float64)


def percentiles(value: float, values: np.ndarray, confidence: float, n: int) -> Interval:
    """A value with the percentile interval of its resampled values; NaN where none of them exists."""
    if np.isnan(values).all():
        return Interval(value, float("nan"), float("nan"), n)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.nanpercentile(values, [tail, 100.0 - tail])
    return Interval(value, float(low), float(high), n)
