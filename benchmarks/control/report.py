"""The figures of a sweep with their intervals over people, and the tables that show them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from rich.table import Table

from benchmarks.control.response import flip, leakage, leakages, on_target, separation, sides, slopes, spearmans
from benchmarks.control.sweep import Sweep
from synfer.metrics.bootstrap import Interval, resampled
from synfer.vocabulary import AU_NAMES

RESAMPLES = 300


def summary(drawn: Sweep, renders: Sweep) -> dict[str, Interval]:
    """The study's figures, those of the renders as `*_renders`, and `leakage`: what the generator's exceeds the renders' by.

    The renders' sweep holds the same people first; only those of `drawn` count.
    """
    everybody = np.arange(drawn.estimates.shape[2])
    names = [*figures(drawn, everybody), *(f"{name}_renders" for name in figures(renders, everybody)), "leakage"]

    def statistic(people: np.ndarray) -> np.ndarray:
        ours, theirs = figures(drawn, people), figures(renders, people)
        return np.array([*ours.values(), *theirs.values(), ours["leakage_raw"] - theirs["leakage_raw"]])

    return dict(zip(names, resampled(statistic, len(everybody), resamples=RESAMPLES), strict=True))


def figures(sweep: Sweep, people: np.ndarray) -> dict[str, float]:
    """Figures of one sweep over the given people."""
    found, (flip_mae, flip_r) = spearmans(sweep, people), flip(sweep, people)
    return {
        "spearman_mean": float(found.mean()),
        "spearman_min": float(found.min()),
        "slope_mean": float(slopes(sweep, people).mean()),
        "leakage_raw": leakage(sweep, people),
        "separation": separation(sweep, people),
        "flip_mae": flip_mae,
        "flip_r": flip_r,
    }


def as_json(figures: Mapping[str, Interval]) -> dict[str, float | None]:
    """Every figure with its `*_low` and `*_high`; what could not be measured is null."""
    flat = {f"{name}{end}": value for name, found in figures.items() for end, value in _ends(found).items()}
    return {name: None if math.isnan(value) else round(value, 4) for name, value in flat.items()}


def figures_table(figures: Mapping[str, Interval], *, title: str) -> Table:
    """A row a figure: value, interval, and how many people or faces are behind it."""
    table = _table(title, "figure", "value", "95 % interval", "n")
    for name, found in figures.items():
        if not math.isnan(found.value):
            table.add_row(name, f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}", str(found.n))
    return table


def units_table(drawn: Sweep, renders: Sweep) -> Table:
    """A row an AU: graded, local, sided; what renders reach stands in brackets."""
    people = np.arange(drawn.estimates.shape[2])
    headings = ("asked", "", "spearman", "slope", "change", "leakage", "of renders", "other side")
    table = _table("Every AU alone at 0 to 5 (in brackets: renders)", *headings)
    both = [[values(sweep, people) for values in (spearmans, slopes, on_target)] for sweep in (drawn, renders)]
    spilled = [leakages(sweep, people) for sweep in (drawn, renders)]
    changes = [sides(sweep, people) for sweep in (drawn, renders)]
    for row, code in enumerate(drawn.codes):
        cells = [f"{ours[row]:.2f} ({theirs[row]:.2f})" for ours, theirs in zip(*both, strict=True)]
        beside = " ".join(f"{change[code][1]:+.2f}" if code in change else "" for change in changes).split()
        other = f"{beside[0]} ({beside[1]})" if beside else ""
        table.add_row(code, AU_NAMES[code], *cells, *(f"{values[row]:.3f}" for values in spilled), other)
    return table


def _ends(found: Interval) -> dict[str, float]:
    return {"": found.value, "_low": found.low, "_high": found.high}


def _table(title: str, first: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    return table
