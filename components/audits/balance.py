"""Are the people in the data those that were planned? Rejection may take more from one group than from another.

The change of a group is the share of its images that stay in use over that of all images, minus 1. At 0 it kept its place in the data, at
-1 nobody of it is left, at +0.1 its share has grown by a tenth. Where no image was rejected nothing has changed; that has no interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from components.audits.finding import Finding, unmeasured, words
from components.audits.groups import groups, in_use, key, title
from components.intervals import keep
from components.plots import interval_rows
from components.record import Record
from synfer.config import Audit
from synfer.metrics.bootstrap import Interval

NAME = "balance"
_TITLE = "No group loses or gains much by rejection"
_RESAMPLES = 2000


@dataclass(frozen=True)
class Group:
    """A group: images planned and in use, and how its share changed, see the module."""

    name: str
    value: str
    planned: int
    used: int
    change: Interval

    @property
    def title(self) -> str:
        """For people."""
        return title(self.name, self.value)


def audit_balance(rectified: pd.DataFrame, section: Audit, record: Record, *, seed: int) -> Finding:
    """Compare the attributes of the images in use with those that were planned; record table, figure and the largest change."""
    wanted = f"change of a group's share within {section.max_change:.0%}, of groups of {section.min_group} planned images or more"
    used = in_use(rectified)
    if not used.any():
        return unmeasured(NAME, _TITLE, "no image is in use", wanted=wanted)
    found = sorted(group_changes(rectified, seed=seed), key=lambda group: group.change.value)
    counted = [group for group in found if group.planned >= section.min_group]
    if found:
        _record(found, section, int(used.sum()), len(rectified), record)
    if counted and used.all():
        _keep_unchanged(counted, len(rectified), record)
        return Finding(NAME, _TITLE, "warning", True, "no image was rejected", wanted, 0.0, n=len(rectified))
    if not counted:
        why = "the plan names no attributes" if not found else f"no group has {section.min_group} images"
        return unmeasured(NAME, _TITLE, why, wanted=wanted)
    beyond = [group for group in counted if _is_beyond(group.change, section.max_change)]
    worst = max(beyond or counted, key=lambda group: abs(group.change.value))
    keep(record, "audit/balance/largest_change", worst.change)
    others = [group.title for group in beyond if group is not worst]
    observed = f"{worst.title}: {words(worst.change, signed=True)}" + (f"; beyond it also {', '.join(others)}" if others else "")
    one = worst.change
    return Finding(NAME, _TITLE, "warning", not beyond, observed, wanted, one.value, one.low, one.high, one.n)


def group_changes(rectified: pd.DataFrame, *, seed: int) -> list[Group]:
    """Every group of the plan with its change, in the vocabulary's order."""
    used, rng = in_use(rectified), np.random.default_rng(seed)
    found = []
    for name, value, has in groups(rectified):
        cells = np.array([[(has & used).sum(), (has & ~used).sum()], [(~has & used).sum(), (~has & ~used).sum()]])
        found.append(Group(name, value, int(has.sum()), int(cells[0, 0]), _change(cells, rng)))
    return found


def _change(cells: np.ndarray, rng: np.random.Generator) -> Interval:
    """Change of the first row of counts (in use, rejected) against both rows, with the interval over resampled images.

    Images are drawn anew with replacement; of a group and its complement only the four counts matter, so memory does not grow with them.
    """
    drawn = rng.multinomial(cells.sum(), cells.ravel() / cells.sum(), size=_RESAMPLES).reshape(-1, 2, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = drawn[:, 0, 0] / drawn[:, 0].sum(axis=1) / (drawn[:, :, 0].sum(axis=1) / cells.sum()) - 1
    value = cells[0, 0] / cells[0].sum() / (cells[:, 0].sum() / cells.sum()) - 1
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(float(value), float(low), float(high), int(cells[0].sum()))


def _keep_unchanged(counted: list[Group], planned: int, record: Record) -> None:
    """Of every group that counts, and of all: a change of 0 that is no estimate."""
    record.metric("audit/balance/largest_change", 0.0, n=planned)
    for group in counted:
        record.metric(f"audit/balance/{key(group.name, group.value)}", 0.0, n=group.planned)


def _is_beyond(change: Interval, limit: float) -> bool:
    return change.low > limit or change.high < -limit


def _record(found: list[Group], section: Audit, used: int, planned: int, record: Record) -> None:
    rows = [
        {
            "group": group.title,
            "planned": group.planned,
            "share planned": group.planned / planned,
            "in use": group.used,
            "share in use": group.used / used,
            "change": f"{0:+.3f}" if used == planned else words(group.change, signed=True).partition(", n =")[0],
            "": "too few to say" if group.planned < section.min_group else "",
        }
        for group in found
    ]
    record.table(f"Who is left of the plan: {used:,} of {planned:,} images in use; those that lost most first", pd.DataFrame(rows))
    for group in found:
        if group.planned >= section.min_group:
            keep(record, f"audit/balance/{key(group.name, group.value)}", group.change)
    figure = interval_rows(
        {f"{group.title} ({group.planned})": group.change for group in found},
        xlabel="change of the group's share by rejection", level=0.0, band=(-section.max_change, section.max_change),
    )  # fmt: skip
    text = (
        "Share of each group in the images in use over its share in the plan, minus 1, with its interval over images; in brackets how many "
        "images were planned, shaded what is allowed."
    )
    record.figure("balance", figure, title="Who is lost to rejection", caption=text)
