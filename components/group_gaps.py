"""How unequally a classifier serves groups of people, for every attribute that a corpus knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from components.intervals import cell, keep
from components.record import Record
from synfer.metrics.groups import SMALLEST, GroupGap, group_gap

_PREFIX = "attr_"


def group_gaps(truth: np.ndarray, probabilities: np.ndarray, rows: pd.DataFrame, **settings: Any) -> dict[str, GroupGap]:
    """The gap in UAR between the groups of every attribute (a column `attr_*` of the rows) that has two large enough ones.

    The interval is over people, each of whom may have several faces. `settings` are those of the bootstrap.
    """
    found = {}
    person = people_of(rows)
    for column in (name for name in rows.columns if name.startswith(_PREFIX)):
        names = rows[column].astype(object).where(rows[column].notna(), "").astype(str).tolist()
        gap = group_gap(truth, probabilities, names, people=person, **settings)
        if gap is not None:
            found[column.removeprefix(_PREFIX)] = gap
    return found


def people_of(rows: pd.DataFrame) -> list[str] | None:
    """Whom each row of a manifest shows, a person of its own where nobody knows; None where nobody is known, for then faces are drawn."""
    if "identity" not in rows or not (rows["identity"] != "").any():
        return None
    known: list[str] = rows["identity"].mask(rows["identity"] == "", rows["sample_id"]).tolist()
    return known


def record_gaps(gaps: dict[str, GroupGap], record: Record, *, prefix: str, title: str) -> None:
    """Record every gap as a metric, and one table with the extreme groups; nothing where there are no attributes."""
    rows = []
    for attribute, found in gaps.items():
        keep(record, f"{prefix}/{attribute}", found.gap)
        record.metric(f"{prefix}_by_chance/{attribute}", found.by_chance, n=found.gap.n)
        worst, best = (f"{name}: {cell(found.groups[name])}, n={found.groups[name].n}" for name in (found.worst, found.best))
        small = ", ".join(f"{name} ({count})" for name, count in found.small.items())
        rows.append(
            {
                "attribute": attribute.replace("_", " "), "worst group": worst, "best group": best,
                "UAR, worst minus best": cell(found.gap, signed=True), "by chance alone": f"{found.by_chance:+.3f}",
                f"left out (fewer than {SMALLEST})": small or "-",
            }
        )  # fmt: skip
    if rows:
        record.table(title, pd.DataFrame(rows))
