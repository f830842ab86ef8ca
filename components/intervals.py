"""Intervals where people and metrics files read them."""

from __future__ import annotations

from components.record import Record
from synfer.metrics.bootstrap import Interval


def keep(record: Record, key: str, found: Interval) -> None:
    """Record an interval as a metric."""
    record.metric(key, found.value, low=found.low, high=found.high, n=found.n)


def cell(found: Interval, *, signed: bool = False) -> str:
    """An interval in a table: `0.812 (0.790 to 0.833)`."""
    form = "+.3f" if signed else ".3f"
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"
