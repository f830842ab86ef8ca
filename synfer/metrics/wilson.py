"""Wilson's score interval of a share (Wilson 1927), which holds for few images and for shares near 0 and 1."""

from __future__ import annotations

from scipy.stats import binomtest


def wilson(count: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Lower and upper limit of the share `count` of `n` > 0."""
    found = binomtest(count, n).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)
