"""Shares of a count with intervals that hold for few images and for shares near 0 and 1, where the bootstrap gives none."""

from __future__ import annotations

import math

from synfer.metrics.bootstrap import Interval
from synfer.metrics.wilson import wilson


def proportion(count: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Share `count` of `n` with its Wilson score interval (Wilson 1927); NaN throughout without any."""
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0)
    low, high = wilson(count, n, confidence=confidence)
    return Interval(count / n, low, high, n)


def proportion_difference(one: Interval, other: Interval) -> Interval:
    """One share minus another of different images, both from `proportion`, with Newcombe's hybrid score interval (1998, method 10)."""
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Interval(value, low, high, one.n + other.n)
