"""Are the labels as good for one group of people as for another? The judge's predictions, which stage evaluation kept, group by group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from components.audits.finding import Finding, at_most, unmeasured
from components.audits.groups import groups, in_use, key, title
from components.intervals import cell, keep
from components.plots import interval_rows
from components.record import Record
from synfer.config import Audit
from synfer.metrics.bootstrap import Interval
from synfer.metrics.proportions import proportion, proportion_difference

NAME = "judge_groups"
PREDICTIONS = Path("predictions") / "generated.parquet"
_TITLE = "The judge agrees with the labels of all groups alike"
_PREFIX = "judge_"
_GAP = "accuracy of an attribute's best group minus that of its worst"


@dataclass(frozen=True)
class Gap:
    """The best and the worst group of an attribute, and how far they are apart."""

    attribute: str
    best: str
    worst: str
    difference: Interval


def audit_judged_groups(rectified: pd.DataFrame, evaluation: Path, section: Audit, record: Record) -> Finding:
    """Compare the judge's accuracy on the released labels between groups; record table, figure, metrics and the largest gap.

    The rejected images, whose labels nobody is to use, are left out.
    """
    wanted = f"{_GAP} at most {section.max_gap:g}, of groups of {section.min_group} images or more"
    rows = judged_rows(rectified, evaluation)
    if rows.empty:
        return unmeasured(NAME, _TITLE, "no image in use was judged", wanted=wanted)
    overall = proportion(int(rows["right"].sum()), len(rows))
    found = {(name, value): proportion(int(rows["right"][has].sum()), int(has.sum())) for name, value, has in groups(rows)}
    keep(record, "audit/judge_accuracy", overall)
    if found:
        _record(found, overall, section, record)
    gaps = attribute_gaps({group: accuracy for group, accuracy in found.items() if accuracy.n >= section.min_group})
    if not gaps:
        return unmeasured(NAME, _TITLE, f"no attribute has two groups of {section.min_group} judged images", wanted=wanted)
    for gap in gaps:
        keep(record, f"audit/judge_gap/{gap.attribute}", gap.difference)
    widest = max(gaps, key=lambda gap: (gap.difference.low > section.max_gap, gap.difference.value))
    where = f"{title(widest.attribute, widest.worst)} against {widest.best}"
    finding = at_most(NAME, _TITLE, "warning", widest.difference, section.max_gap, what=_GAP, where=where)
    keep(record, "audit/judge_gap", widest.difference)
    return finding


def judged_rows(rectified: pd.DataFrame, evaluation: Path) -> pd.DataFrame:
    """Rows of the images in use that were judged, with `seen`, the judge's first choice, and `right`, whether it is the label."""
    predictions = pd.read_parquet(evaluation / PREDICTIONS)
    classes = [name.removeprefix(_PREFIX) for name in predictions.columns if name.startswith(_PREFIX)]
    best = predictions[[f"{_PREFIX}{name}" for name in classes]].to_numpy().argmax(axis=1)
    seen = pd.DataFrame({"sample_id": predictions["sample_id"], "seen": [classes[index] for index in best]})
    rows = rectified[in_use(rectified)].merge(seen, on="sample_id", how="inner")
    return rows.assign(right=rows["seen"] == rows["label"])


def attribute_gaps(accuracies: dict[tuple[str, str], Interval]) -> list[Gap]:
    """Best against worst value of every attribute that has two; of different images, so without pairs."""
    gaps = []
    for attribute in dict.fromkeys(name for name, _ in accuracies):
        values = {value: accuracy for (name, value), accuracy in accuracies.items() if name == attribute}
        ranked = sorted(values, key=lambda value: values[value].value)
        if len(ranked) > 1:
            best, worst = ranked[-1], ranked[0]
            gaps.append(Gap(attribute, best, worst, proportion_difference(values[best], values[worst])))
    return gaps


def _record(found: dict[tuple[str, str], Interval], overall: Interval, section: Audit, record: Record) -> None:
    rows = [
        {
            "group": title(*group),
            "images": accuracy.n,
            "the judge sees the label": cell(accuracy),
            "": "too few to say" if accuracy.n < section.min_group else "",
        }
        for group, accuracy in found.items()
    ]
    table = pd.DataFrame([*rows, {"group": "all", "images": overall.n, "the judge sees the label": cell(overall), "": ""}])
    record.table("Judge accuracy on the labels in use, by group", table)
    shown = {group: accuracy for group, accuracy in found.items() if accuracy.n >= section.min_group}
    for group, accuracy in shown.items():
        keep(record, f"audit/judge_accuracy/{key(*group)}", accuracy)
    if shown:
        bars = interval_rows(
            {f"{title(*group)} ({accuracy.n})": accuracy for group, accuracy in shown.items()},
            xlabel="judge accuracy on the label", level=overall.value,
        )  # fmt: skip
        text = (
            "Share of the images in use in which the independent judge sees the released label, with Wilson's interval; in brackets the "
            f"number of images, dashed all images. Groups of fewer than {section.min_group} judged images are left out here."
        )
        record.figure("judge_groups", bars, title="Judge accuracy by group", caption=text)
