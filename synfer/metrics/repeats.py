"""Intervals of repeated trainings: faces and trainings are both drawn with replacement, so that the interval holds the chance of either.

S trainings with different seeds predict the same N faces; the value is the mean over trainings. People are drawn instead of faces where
several faces show one person. Drawing S of S trainings has (S - 1) / S of their variance, so the distance of a drawn mean from the mean of
all is stretched by the root of S / (S - 1) (Davison and Hinkley 1997, section 2.3). Of three trainings the bootstrap still knows little:
where trainings differ much, its intervals are too short. With one training the interval holds the randomness of the faces alone.
(Hierarchical bootstrap: Saravanan et al. 2020, arXiv 2007.07797.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from synfer.metrics.bootstrap import Interval, group_sums, membership, percentiles, resample_counts
from synfer.metrics.classification import Metric, MetricError

Values = Callable[[np.ndarray], np.ndarray]
"""How often each group is drawn, float (R, G) -> the value of every training in every resample, (R, S)."""


def repeated_interval(
    metric: Metric, truth: np.ndarray, predictions: np.ndarray, *, groups: Sequence[object] | None = None, resamples: int = 1000,
    confidence: float = 0.95, seed: int = 0,
) -> Interval:  # fmt: skip
    """Mean over S trainings of a metric with its interval; `truth` int (N,), `predictions` probabilities float (S, N, K).

    `groups` (N,) names whom each face shows. Raises MetricError where the shapes do not fit together.
    """
    values = _of_metric(metric, truth, predictions, membership(groups, len(truth)))
    return _interval(values, len(predictions), _groups(groups, len(truth)), len(truth), resamples, confidence, seed)


def repeated_difference(
    metric: Metric, truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, *, groups: Sequence[object] | None = None,
    resamples: int = 1000, confidence: float = 0.95, seed: int = 0,
) -> Interval:  # fmt: skip
    """Mean metric of `ours` minus that of `theirs`, both (S, N, K), paired: the same faces and the same seeds are drawn for both."""
    _check_pairs(ours, theirs)
    member = membership(groups, len(truth))
    mine, other = (_of_metric(metric, truth, predictions, member) for predictions in (ours, theirs))
    return _interval(
        lambda counts: mine(counts) - other(counts), len(ours), _groups(groups, len(truth)), len(truth), resamples, confidence, seed
    )


def repeated_share(
    hits: np.ndarray, asked: np.ndarray, *, groups: Sequence[object] | None = None, resamples: int = 1000, confidence: float = 0.95,
    seed: int = 0,
) -> Interval:  # fmt: skip
    """Mean over S trainings of the share of hits: of each of N faces how often it was right, and how often it was asked, both (S, N).

    A face may be asked any number of times, and never, as in episodes of few-shot classification: those that hold the same face are not
    independent, so that faces are drawn and not episodes.
    """
    values = _of_shares(hits, asked, membership(groups, hits.shape[1]))
    return _interval(values, len(hits), _groups(groups, hits.shape[1]), int(asked.any(axis=0).sum()), resamples, confidence, seed)


def share_difference(
    ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray], *, groups: Sequence[object] | None = None,
    resamples: int = 1000, confidence: float = 0.95, seed: int = 0,
) -> Interval:  # fmt: skip
    """Share of hits of `ours` minus that of `theirs`, each (hits, asked), paired by seed and face."""
    _check_pairs(ours[0], theirs[0])
    count = ours[0].shape[1]
    member = membership(groups, count)
    mine, other = (_of_shares(*each, member) for each in (ours, theirs))
    n = int(ours[1].any(axis=0).sum())
    return _interval(lambda counts: mine(counts) - other(counts), len(ours[0]), _groups(groups, count), n, resamples, confidence, seed)


def choices_as_probabilities(choices: np.ndarray, classes: int) -> np.ndarray:
    """First choices int (S, N) as probabilities (S, N, K) that are sure of them."""
    return np.eye(classes)[choices]


def _of_metric(metric: Metric, truth: np.ndarray, predictions: np.ndarray, member: np.ndarray | None) -> Values:
    if predictions.ndim != 3 or not len(predictions):
        raise MetricError(f"predictions of repeated trainings must be (S, N, K) with S > 0, found {predictions.shape}")
    for table in predictions:
        metric(truth, table)  # tells what does not fit together
    sums = [group_sums(metric.rows(truth, table), member) for table in predictions]
    classes = predictions.shape[2]
    return lambda counts: np.stack([metric.combine(counts @ rows, classes) for rows in sums], axis=1)


def _of_shares(hits: np.ndarray, asked: np.ndarray, member: np.ndarray | None) -> Values:
    right, all_ = (group_sums(each.T.astype(float), member) for each in (hits, asked))
    return lambda counts: (counts @ right) / (counts @ all_)


def _groups(groups: Sequence[object] | None, count: int) -> int:
    member = membership(groups, count)
    return count if member is None else int(member.max()) + 1


def _check_pairs(ours: np.ndarray, theirs: np.ndarray) -> None:
    if ours.shape != theirs.shape:
        raise MetricError(f"a paired difference needs the same trainings and faces on both sides, found {ours.shape} and {theirs.shape}")


def _interval(values: Values, trainings: int, groups: int, n: int, resamples: int, confidence: float, seed: int) -> Interval:
    means, chosen = [], np.random.default_rng([seed, 1])  # of faces and of trainings: streams of their own
    stretch = (trainings / (trainings - 1)) ** 0.5 if trainings > 1 else 1.0
    for counts in resample_counts(groups, resamples, seed):
        drawn = values(counts)
        taken = np.take_along_axis(drawn, chosen.integers(0, trainings, drawn.shape), axis=1).mean(axis=1)
        of_all = drawn.mean(axis=1)
        means.append(of_all + stretch * (taken - of_all))
    return percentiles(float(values(np.ones((1, groups))).mean()), np.concatenate(means), confidence, n)
