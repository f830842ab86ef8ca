"""How far two measurements of the same faces agree, and whether one rises with the other."""

from __future__ import annotations

import numpy as np
from scipy import stats

from synfer.errors import SynferError


class AgreementError(SynferError):
    """Measurements that cannot be compared; the message gives their shapes."""


def icc(ratings: np.ndarray) -> float:
    """ICC(3,1), the consistency of single ratings (Shrout and Fleiss 1979), of ratings (N, k): N faces, each rated by the same k raters.

    1 where raters differ by a constant at most, 0 or less where faces do not tell ratings apart; NaN where nothing varies at all.
    """
    if ratings.ndim != 2 or min(ratings.shape) < 2:
        raise AgreementError(f"ratings must be (N, k) with at least two of both, found {ratings.shape}")
    faces, raters = ratings.shape
    wide = ratings.astype(np.float64)
    grand = wide.mean()
    between = raters * ((wide.mean(axis=1) - grand) ** 2).sum() / (faces - 1)
    residual = wide - wide.mean(axis=1, keepdims=True) - wide.mean(axis=0, keepdims=True) + grand
    error = (residual**2).sum() / ((faces - 1) * (raters - 1))
    total = between + (raters - 1) * error
    return float((between - error) / total) if total > 0 else float("nan")


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of two (N,); 0 where one of them is constant, for a constant says nothing of the other."""
    if _constant(first, second):
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two (N,), ties at their mean rank; 0 where one of them is constant."""
    if _constant(first, second):
        return 0.0
    return float(stats.spearmanr(first, second).statistic)


def _constant(first: np.ndarray, second: np.ndarray) -> bool:
    if first.ndim != 1 or first.shape != second.shape or len(first) < 2:
        raise AgreementError(f"two measurements (N,) of at least two faces are compared, found {first.shape} and {second.shape}")
    return bool(np.ptp(first) == 0 or np.ptp(second) == 0)
