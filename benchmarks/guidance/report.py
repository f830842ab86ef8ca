"""The study's table, its figures as JSON, and the rule that picks one strength of each form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.table import Table

from benchmarks.guidance.arms import UNGUIDED, Arm
from benchmarks.guidance.measures import Seen
from components.guidance import LATENT, PUBLISHED
from synfer.files import whole_file
from synfer.metrics.bootstrap import Interval

Figures = Mapping[Arm, Mapping[str, Interval]]

TOLERATED = 0.03
"""Loss of precision that a strength may cost; beyond it the faces are no longer what the generator draws."""

_HEADINGS = {
    "cost": "cost",
    "judge": "judge",
    "gain": "gain",
    "guide": "guide",
    "gap": "guide - judge",
    "precision": "precision",
    "kid": "KID",
    "drift": "drift, pixels",
    "feature_drift": "drift, features",
    "diversity": "diversity",
}
_SHORT = {LATENT: "ours", PUBLISHED: "published", UNGUIDED.form: "none"}
_WITH_INTERVAL = ("judge", "gain", "gap", "precision")
_REPORTED = ("cost", "judge", "gap", "precision", "kid", "drift", "feature_drift", "diversity")


def best(found: Figures, form: str) -> Arm:
    """The strength of a form with the best judge accuracy among those that lose at most `TOLERATED` of precision.

    Where all lose more, the one that loses least. Both forms are picked by this rule on the same faces, so neither has an advantage.
    """
    least = found[UNGUIDED]["precision"].value - TOLERATED
    candidates = [arm for arm in found if arm.form == form]
    allowed = [arm for arm in candidates if found[arm]["precision"].value >= least]
    if not allowed:
        return max(candidates, key=lambda arm: found[arm]["precision"].value)
    return max(allowed, key=lambda arm: (found[arm]["judge"].value, -arm.strength))


def as_json(found: Figures, picked: Mapping[str, Arm], floor: Interval, seconds: Mapping[Arm, float]) -> dict[str, float | None]:
    """`judge_none`, `judge_published`, `judge_ours` and their like with `_low` and `_high`, of the picked strengths; NaN is null."""
    flat: dict[str, float] = {}
    for form, arm in picked.items():
        flat |= {f"strength_{_SHORT[form]}": arm.strength, f"seconds_{_SHORT[form]}": seconds[arm]}
        for name in _REPORTED:
            flat |= _ends(f"{name}_{_SHORT[form]}", found[arm][name])
    flat |= _ends("kid_floor", floor)
    return {name: None if math.isnan(value) else round(value, 4) for name, value in flat.items()}


def arms_table(found: Figures, seconds: Mapping[Arm, float], *, title: str) -> Table:
    """A row an arm."""
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("guidance", no_wrap=True)
    for heading in ("ms a face", *_HEADINGS.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm, figures in found.items():
        table.add_row(str(arm), f"{1000 * seconds[arm]:.0f}", *(_cell(name, figures[name]) for name in _HEADINGS))
    return table


def write_predictions(path: Path, rows: pd.DataFrame, seen: Mapping[Arm, Seen], classes: Sequence[str]) -> None:
    """One row a face and arm: what was asked, and the probabilities of judge and guide."""
    parts = []
    for arm, found in seen.items():
        part = pd.DataFrame({"form": arm.form, "strength": arm.strength, "sample_id": rows["sample_id"], "intent": rows["expression"]})
        for name, table in (("judge", found.judge), ("guide", found.guide)):
            part = part.assign(**{f"{name}_{label}": table[:, column] for column, label in enumerate(classes)})
        parts.append(part)
    with whole_file(path) as temporary:
        pd.concat(parts, ignore_index=True).to_parquet(temporary, index=False)


def _cell(name: str, found: Interval) -> str:
    if name == "cost":
        return f"{found.value:.2f}x"
    return f"{found.value:.3f} [{found.low:.2f}, {found.high:.2f}]" if name in _WITH_INTERVAL else f"{found.value:.3f}"


def _ends(name: str, found: Interval) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
