"""McNemar's test: are two classifiers right equally often on the same rows?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class McNemar:
    """Rows on which only one of the two is right, and the exact two-sided p-value of that split (McNemar 1947, binomial form)."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> McNemar:
    """The test for probabilities float (N, K) of two classifiers and the truth int (N,)."""
    right, other = (probabilities.argmax(axis=1) == truth for probabilities in (first, second))
    only_first, only_second = int((right & ~other).sum()), int((other & ~right).sum())
    differ = only_first + only_second
    return McNemar(only_first, only_second, float(binomtest(only_first, differ).pvalue) if differ else 1.0)
