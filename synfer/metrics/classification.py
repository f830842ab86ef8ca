"""Classification metrics as functions of sums over rows, so that a bootstrap of thousands of resamples is one matrix product.

A `Metric` turns each row into a vector of statistics and the weighted sum of these vectors into the value: accuracy, UAR and macro-F1 from
the entries of the confusion matrix, NLL from the log-likelihoods, ECE from the sums of its bins. The tests hold every one of them to
scikit-learn or torchmetrics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synfer.errors import SynferError

ECE_BINS = 15
_TINY = 1e-12
_SUM_TOLERANCE = 1e-3  # of a row of probabilities that was rounded on its way


class MetricError(SynferError):
    """Predictions and truth that do not fit together, or are none; the message says what was found."""


@dataclass(frozen=True)
class Metric:
    """`rows`: (truth (N,), probabilities (N, K)) -> statistics (N, S); `combine`: their sums (..., S) and K -> values (...).

    Where the value is a share of rows, `of` tells from the truth which rows those are, bool (N,): its interval must not collapse where all
    of them, or none, are right. `biased` is one that few rows raise, as they do a sum of absolute deviations: resampling raises it again.
    """

    name: str
    rows: Callable[[np.ndarray, np.ndarray], np.ndarray]
    combine: Callable[[np.ndarray, int], np.ndarray]
    of: Callable[[np.ndarray], np.ndarray] | None = None
    biased: bool = False

    def __call__(self, truth: np.ndarray, probabilities: np.ndarray) -> float:
        """Value over all rows; `truth` holds class indices int (N,), `probabilities` float (N, K)."""
        check_predictions(truth, probabilities)
        return float(self.combine(self.rows(truth, probabilities).sum(axis=0), probabilities.shape[1]))


def check_predictions(truth: np.ndarray, probabilities: np.ndarray) -> None:
    """Raise MetricError unless there is one row of probabilities for each of at least one truth, and every truth is a class.

    Probabilities are finite, at least 0 and sum to 1 in every row; logits, NaN or scores of single classes would give figures all the same.
    """
    if probabilities.ndim != 2 or truth.shape != probabilities.shape[:1] or not len(truth):
        raise MetricError(f"truth must be (N,) and probabilities (N, K) with N > 0, found {truth.shape} and {probabilities.shape}")
    if not np.issubdtype(truth.dtype, np.integer):
        raise MetricError(f"truth must hold class indices, found {truth.dtype}")
    if truth.min() < 0 or truth.max() >= probabilities.shape[1]:
        strange = truth.min() if truth.min() < 0 else truth.max()
        raise MetricError(f"truth holds class {strange}, probabilities have {probabilities.shape[1]} classes")
    _check_probabilities(probabilities)


def _check_probabilities(probabilities: np.ndarray) -> None:
    sums = probabilities.sum(axis=1, dtype=np.float64)
    wrong = ~((probabilities >= 0).all(axis=1) & (np.abs(sums - 1) <= _SUM_TOLERANCE))  # NaN compares as false
    if wrong.any():
        row = int(wrong.argmax())
        found = f"{int(wrong.sum())} of {len(wrong)} rows are not, the first is row {row} with sum {sums[row]:.4g}"
        raise MetricError(f"probabilities must be at least 0 and sum to 1 in every row: {found}, smallest {probabilities[row].min():.4g}")


def confusion(truth: np.ndarray, guess: np.ndarray, classes: int) -> np.ndarray:
    """Counts int (K, K): row = truth, column = guess."""
    return np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)


def recalls(counts: np.ndarray) -> np.ndarray:
    """Recall of each class (..., K) from confusion counts (..., K, K); NaN where a class has no row."""
    total = counts.sum(axis=-1)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.divide(hits, total, out=np.full(total.shape, np.nan), where=total > 0)


def f1_scores(counts: np.ndarray) -> np.ndarray:
    """F1 of each class (..., K) from confusion counts (..., K, K); NaN where a class is neither true nor guessed."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    total = counts.sum(axis=-1) + counts.sum(axis=-2)
    return np.divide(2.0 * hits, total, out=np.full(total.shape, np.nan), where=total > 0)


def recall_of(index: int) -> Metric:
    """Recall of one class as a metric of its own, for its interval."""
    name = f"recall of class {index}"
    return Metric(name, _confusion_rows, lambda sums, classes: recalls(_square(sums, classes))[..., index], lambda truth: truth == index)


def reliability(truth: np.ndarray, probabilities: np.ndarray, *, bins: int = ECE_BINS) -> np.ndarray:
    """Per confidence bin (bins, 3): number of rows, mean confidence, accuracy; NaN where a bin is empty."""
    check_predictions(truth, probabilities)
    count, confidence, hits = _bin_rows(truth, probabilities, bins).sum(axis=0).reshape(3, bins)
    full = count > 0
    mean = [np.divide(part, count, out=np.full(bins, np.nan), where=full) for part in (confidence, hits)]
    return np.stack([count, *mean], axis=1)


# --- statistics of a row ----------------------------------------------------------------------------------------------------------


def _confusion_rows(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    classes = probabilities.shape[1]
    return np.eye(classes**2)[truth * classes + probabilities.argmax(axis=1)]


def _hit_rows(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return np.stack([probabilities.argmax(axis=1) == truth, np.ones(len(truth))], axis=1)


def _likelihood_rows(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    likelihood = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return np.stack([-np.log(np.maximum(likelihood, _TINY)), np.ones(len(truth))], axis=1)


def _bin_rows(truth: np.ndarray, probabilities: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """(N, 3 * bins): membership, confidence and hit, each in the column of the row's bin."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    member = np.eye(bins)[np.minimum((confidence * bins).astype(int), bins - 1)]
    hit = probabilities.argmax(axis=1) == truth
    return np.concatenate([member, member * confidence[:, None], member * hit[:, None]], axis=1)


# --- from sums to values ----------------------------------------------------------------------------------------------------------


def _square(sums: np.ndarray, classes: int) -> np.ndarray:
    return sums.reshape(*sums.shape[:-1], classes, classes)


def _calibration_error(sums: np.ndarray, classes: int) -> np.ndarray:
    count, confidence, hits = np.split(sums, 3, axis=-1)
    return np.abs(confidence - hits).sum(axis=-1) / count.sum(axis=-1)


def _mean(sums: np.ndarray, classes: int) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


ACCURACY = Metric("accuracy", _hit_rows, _mean, lambda truth: np.ones(len(truth), bool))
"""Share of rows whose most probable class is the true one (weighted average recall, WAR)."""

UAR = Metric("uar", _confusion_rows, lambda sums, classes: np.nanmean(recalls(_square(sums, classes)), axis=-1))
"""Unweighted average recall: mean recall of the classes that occur; 1/K for a constant guess."""

MACRO_F1 = Metric("macro_f1", _confusion_rows, lambda sums, classes: np.nanmean(f1_scores(_square(sums, classes)), axis=-1))
"""Mean F1 of the classes that are true or guessed somewhere."""

NLL = Metric("nll", _likelihood_rows, _mean)
"""Mean negative log-likelihood of the true class, nats."""

ECE = Metric("ece", _bin_rows, _calibration_error, biased=True)
"""Expected calibration error of the top class over 15 bins of equal width (Guo et al. 2017)."""

METRICS: dict[str, Metric] = {metric.name: metric for metric in (ACCURACY, UAR, MACRO_F1, NLL, ECE)}
