"""The tables of the study and its figures as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.table import Table

from benchmarks.rectification.noise import KINDS
from benchmarks.rectification.trial import RATES, Trial
from synfer.metrics.bootstrap import Interval

ALIASES = {"vote": "mean_vote"}
"""Short names that the JSON line has beside the long ones."""


def as_json(figures: Mapping[str, Interval]) -> dict[str, float | None]:
    """Every figure with its `*_low` and `*_high`; what could not be measured is null."""
    named = dict(figures) | {f"{short}_after_{rate}": figures[key] for short, rate, key in _aliases(figures)}
    flat = {f"{name}{end}": value for name, one in named.items() for end, value in _ends(one).items()}
    return {name: None if math.isnan(value) else round(value, 4) for name, value in flat.items()}


def _ends(found: Interval) -> dict[str, float]:
    """The value, and its interval where it has one."""
    ends = {"": found.value, "_low": found.low, "_high": found.high}
    return {"": found.value} if found.low == found.value == found.high or math.isnan(found.low) else ends


def _aliases(figures: Mapping[str, Interval]) -> list[tuple[str, int, str]]:
    wanted = [(short, round(100 * rate), f"{name}_after_{round(100 * rate)}") for short, name in ALIASES.items() for rate in RATES]
    return [alias for alias in wanted if alias[2] in figures]


def methods_table(trials: Sequence[Trial]) -> Table:
    """A row a method: mean label error after it at every kind and rate, at full coverage and on the images that it uses."""
    columns = [(kind, rate) for kind in KINDS for rate in RATES]
    headings = [f"{kind[:4]} {rate:.0%}" for kind, rate in columns]
    table = _table("Label error left, and on the images used where not all are", "method", *headings)
    means = method_means(trials)
    for method in trials[0].after:
        cells = []
        for kind, rate in columns:
            row = means[(method, kind, rate)]
            part = f" ({row['after_used']:.3f} of {row['coverage']:.0%})" if row["coverage"] < 0.9995 else ""
            cells.append(f"{row['after']:.3f}{part}")
        table.add_row(method, *cells)
    return table


def errors_table(trials: Sequence[Trial]) -> Table:
    """A row a method: precision and recall of the errors that it finds, and its ECE, at every rate."""
    headings = [f"{name} {rate:.0%}" for rate in RATES for name in ("precision", "recall", "ECE")]
    table = _table("Errors found (both kinds of noise)", "method", *headings)
    means = method_means(trials)
    for method in trials[0].after:
        rows = [_mean([means[(method, kind, rate)] for kind in KINDS]) for rate in RATES]
        cells = [_cell(row[name]) for row in rows for name in ("found_precision", "found_recall", "ece")]
        table.add_row(method, *cells)
    return table


def method_means(trials: Sequence[Trial]) -> dict[tuple[str, str, float], dict[str, float]]:
    """Mean figures over the seeds, by method, kind and rate."""
    rows = pd.concat([trial.figures for trial in trials]).drop(columns="seed").groupby(["method", "kind", "rate"], as_index=False).mean()
    names = [str(name) for name in rows.columns[3:]]
    return {row[:3]: dict(zip(names, row[3:], strict=True)) for row in rows.itertuples(index=False, name=None)}


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def figures_table(figures: Mapping[str, Interval], *, title: str) -> Table:
    """A row a figure: value, interval, and how many people, faces or trials are behind it."""
    table = _table(title, "figure", "value", "95 % interval", "n")
    for name, found in figures.items():
        ends = _ends(found)
        between = f"{_cell(ends['_low'])} to {_cell(ends['_high'])}" if "_low" in ends else ""
        table.add_row(name, _cell(found.value), between, str(found.n))
    return table


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _table(title: str, first: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table
