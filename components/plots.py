"""The figures that several stages draw, in one style: confusion matrices, reliability, values with intervals, curves, bars, heat maps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator
from PIL import Image

from synfer.files import whole_file
from synfer.metrics.bootstrap import Interval

INK, MUTED, GRID = "#0f172a", "#94a3b8", "#e2e8f0"
PALETTE = ("#2563eb", "#d97706", "#059669", "#7c3aed", "#dc2626", "#0891b2", "#64748b", "#be185d")
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID,
    "font.size": 10, "legend.frameon": False, "legend.fontsize": 9, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "xtick.major.size": 0, "ytick.major.size": 0,
}  # fmt: skip


def save_picture(picture: Figure | Image.Image, path: Path) -> Path:
    """Write a matplotlib figure or an image as a PNG, whole or not at all; returns `path`."""
    with whole_file(path) as temporary:
        if isinstance(picture, Figure):
            picture.savefig(temporary, format="png", dpi=130, bbox_inches="tight")
        else:
            picture.save(temporary, format="PNG")
    return path


@contextmanager
def _panels(columns: int, *, width: float, height: float, share_y: bool = False) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with a row of panels in the project's style."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width * columns, height), layout="constrained")
        yield figure, list(figure.subplots(1, columns, sharey=share_y, squeeze=False)[0])


def confusion_matrices(
    panels: Mapping[str, np.ndarray], classes: Sequence[str], *, rows: str = "truth", columns: str = "prediction"
) -> Figure:
    """Counts (K, K) by title; a cell shows its share of the row in per cent, and its colour too."""
    width, height = 0.7 + 0.46 * len(classes), 1.5 + 0.46 * len(classes)
    with _panels(len(panels), width=width, height=height, share_y=True) as (figure, axes):
        for axis, (title, counts) in zip(axes, panels.items(), strict=True):
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            for row, column in np.argwhere(shares >= 0.005):
                color = "white" if shares[row, column] > 0.55 else INK
                axis.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", fontsize=9, color=color)
            axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
            axis.set_yticks(range(len(classes)), classes)
            axis.set(title=title, xlabel=columns)
            axis.grid(visible=False)
            axis.spines[:].set_visible(False)
        axes[0].set_ylabel(rows)
    return figure


def reliability_diagrams(panels: Mapping[str, np.ndarray]) -> Figure:
    """Accuracy against confidence by title, from `metrics.classification.reliability` (bins, 3); dots grow with their share of the rows."""
    with _panels(len(panels), width=3.3, height=3.4, share_y=True) as (figure, axes):
        for axis, color, (title, table) in zip(axes, PALETTE, panels.items(), strict=False):
            count, confidence, accuracy = table[table[:, 0] > 0].T
            axis.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
            axis.plot(confidence, accuracy, color=color, alpha=0.7)
            axis.scatter(confidence, accuracy, 10 + 250 * count / count.sum(), color=color, zorder=3)
            axis.set(title=title, xlabel="confidence", xlim=(0, 1.03), ylim=(0, 1.03))
        axes[0].set_ylabel("share right")
    return figure


def interval_bars(series: Mapping[str, Mapping[str, Interval]], *, ylabel: str, ylim: tuple[float, float] | None = (0.0, 1.1)) -> Figure:
    """Bars with their intervals: one colour a series, one group a category; every series has the same categories."""
    categories = list(next(iter(series.values())))
    width = 0.8 / len(series)
    with _panels(1, width=max(4.5, 1.4 + 0.28 * len(categories) * (1 + len(series))), height=3.4) as (figure, (axis,)):
        for index, (name, values) in enumerate(series.items()):
            at = np.arange(len(categories)) + (index - (len(series) - 1) / 2) * width
            heights, errors = _heights([values[category] for category in categories])
            axis.bar(at, heights, 0.92 * width, color=PALETTE[index], label=name)
            axis.errorbar(at, heights, yerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
            for x, height, above in zip(at, heights, errors[1], strict=True):
                axis.annotate(f"{height:.2f}", (x, height + above), (0, 3), textcoords="offset points", ha="center", fontsize=8)
        axis.set_xticks(range(len(categories)), categories)
        axis.set(ylabel=ylabel, ylim=ylim)
        axis.grid(visible=False, axis="x")
        if len(series) > 1:
            figure.legend(loc="outside upper center", ncols=len(series))
    return figure


def _heights(values: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Values (N,) and the lengths (2, N) of their whiskers; a percentile interval may leave the value a hair outside."""
    heights = np.array([value.value for value in values])
    below, above = (np.array([getattr(value, end) for value in values]) for end in ("low", "high"))
    return heights, np.maximum(np.stack([heights - below, above - heights]), 0.0)


def training_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], *, score: str = "val_uar", score_label: str = "UAR on val"
) -> Figure:
    """Training loss and score on val of every epoch, one colour a model; a dot marks the epoch that was kept."""
    with _panels(2, width=4.2, height=3.3) as (figure, (left, right)):
        for (name, history), color in zip(histories.items(), PALETTE, strict=False):
            epochs = np.arange(1, len(history) + 1)
            scores = np.array([epoch[score] for epoch in history])
            left.plot(epochs, [epoch["loss"] for epoch in history], color=color, label=name)
            right.plot(epochs, scores, color=color)
            right.scatter(epochs[scores.argmax()], scores.max(), 30, color=color, zorder=3)
        left.set(title="training loss", xlabel="epoch")
        right.set(title=score_label, xlabel="epoch", ylim=(0, 1))
        for axis in (left, right):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper center", ncols=len(histories))
    return figure


def step_curves(curves: Mapping[str, Sequence[tuple[float, float]]], *, shares: Collection[str] = ()) -> Figure:
    """One panel a curve, (step, value) points by title; those in `shares` run from 0 to 1."""
    with _panels(len(curves), width=4.2, height=3.0) as (figure, axes):
        for axis, color, (title, points) in zip(axes, PALETTE, curves.items(), strict=False):
            steps, values = zip(*points, strict=True)
            axis.plot(steps, values, color=color, marker="o" if len(points) < 25 else None, markersize=4)
            axis.set(title=title.replace("_", " "), xlabel="step", ylim=(0, 1) if title in shares else None)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return figure


def interval_curves(
    panels: Mapping[str, Mapping[str, Mapping[float, Interval]]], *, xlabel: str, levels: Mapping[str, Interval], level: str,
    width: float = 3.6, spread: float = 0.0,
) -> Figure:  # fmt: skip
    """One panel a title: values with their intervals at positions on a logarithmic axis, one colour a series.

    `levels` is a value to compare with in each panel, a dashed line with its interval as a band; `level` names it. A panel is `width`
    inches wide; `spread` is the share of its position by which a series stands beside the one before it, so that whiskers do not overlap.
    """
    with _panels(len(panels), width=width, height=3.4) as (figure, axes):
        for axis, (title, series) in zip(axes, panels.items(), strict=True):
            axis.axhspan(levels[title].low, levels[title].high, color=MUTED, alpha=0.2, linewidth=0)
            axis.axhline(levels[title].value, color=MUTED, linewidth=1.2, linestyle="--", label=level)
            for index, (color, (name, points)) in enumerate(zip(PALETTE, series.items(), strict=False)):
                heights, errors = _heights(list(points.values()))
                places = np.array(list(points)) * (1 + spread) ** (index - (len(series) - 1) / 2)
                axis.errorbar(places, heights, yerr=errors, color=color, marker="o", markersize=4, capsize=2, label=name)
            axis.set(title=title, xlabel=xlabel, xscale="log")
            axis.set_xticks(list(next(iter(series.values()))), [f"{x:g}" for x in next(iter(series.values()))])
            axis.xaxis.set_minor_locator(NullLocator())
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(next(iter(panels.values()))) + 1)
    return figure


def grouped_bars(series: Mapping[str, Mapping[str, float]], *, ylabel: str) -> Figure:
    """Plain bars: one colour a series, one group a category; every series has the same categories."""
    categories = list(next(iter(series.values())))
    width = 0.8 / len(series)
    with _panels(1, width=max(4.5, 0.9 * len(categories) + 1.4), height=3.2) as (figure, (axis,)):
        for index, (name, values) in enumerate(series.items()):
            at = np.arange(len(categories)) + (index - (len(series) - 1) / 2) * width
            bars = axis.bar(at, [values[category] for category in categories], 0.92 * width, color=PALETTE[index], label=name)
            axis.bar_label(bars, fontsize=8, fmt="{:,.0f}", padding=1)
        axis.set_xticks(range(len(categories)), categories)
        axis.set(ylabel=ylabel)
        axis.grid(visible=False, axis="x")
        figure.legend(loc="outside upper center", ncols=len(series))
    return figure


def ranked_bars(values: Mapping[str, float], *, xlabel: str) -> Figure:
    """Horizontal bars in the order given, the first on top, with their values."""
    with _panels(1, width=6.0, height=0.9 + 0.24 * len(values)) as (figure, (axis,)):
        bars = axis.barh(range(len(values)), list(values.values()), color=PALETTE[0])
        axis.bar_label(bars, fontsize=8, fmt="{:.2f}", padding=2)
        axis.set_yticks(range(len(values)), list(values))
        axis.set_ylim(len(values) - 0.4, -0.6)  # the first on top
        axis.set(xlabel=xlabel)
        axis.grid(visible=False, axis="y")
    return figure


def interval_rows(values: Mapping[str, Interval], *, xlabel: str, level: float, band: tuple[float, float] | None = None) -> Figure:
    """A row a category, the first on top: its value as a dot with its interval; `level` is a dashed line, `band` what is allowed."""
    with _panels(1, width=6.0, height=0.9 + 0.23 * len(values)) as (figure, (axis,)):
        if band is not None:
            axis.axvspan(*band, color=MUTED, alpha=0.15, linewidth=0)
        axis.axvline(level, color=MUTED, linewidth=1.2, linestyle="--")
        places, errors = _heights(list(values.values()))
        axis.errorbar(places, range(len(values)), xerr=errors, fmt="o", color=PALETTE[0], markersize=5, capsize=2)
        axis.set_yticks(range(len(values)), list(values))
        axis.set_ylim(len(values) - 0.4, -0.6)  # the first on top
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axis.set(xlabel=xlabel)
    return figure


def interval_dots(
    panels: Mapping[str, Mapping[str, Mapping[str, Interval]]], *, xlabel: str, levels: Mapping[str, float], level: str
) -> Figure:
    """One panel a title: a row a category, the first on top, and in it a dot with its interval for every series, one colour each.

    `levels` is a value to compare with in each panel, a dashed line; `level` names it. Panels share their rows and their series.
    """
    rows = list(next(iter(next(iter(panels.values())).values())))
    with _panels(len(panels), width=5.2, height=1.4 + 0.36 * len(rows), share_y=True) as (figure, axes):
        for axis, (title, series) in zip(axes, panels.items(), strict=True):
            axis.axvline(levels[title], color=MUTED, linewidth=1.2, linestyle="--", label=level)
            for index, (color, (name, values)) in enumerate(zip(PALETTE, series.items(), strict=False)):
                at = np.arange(len(rows)) + (index - (len(series) - 1) / 2) * 0.5 / len(series)
                places, errors = _heights(list(values.values()))
                axis.errorbar(places, at, xerr=errors, fmt="o", color=color, markersize=4, capsize=2, label=name)
            axis.set(title=title, xlabel=xlabel, xlim=(0, None))
            axis.grid(visible=False, axis="y")
        axes[0].set_yticks(range(len(rows)), rows)
        axes[0].set_ylim(len(rows) - 0.5, -0.5)  # the first on top
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(next(iter(panels.values()))) + 1)
    return figure


def heat_map(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, cells: Sequence[Sequence[str]], xlabel: str, empty: np.ndarray
) -> Figure:
    """Values 0..1 (R, C) as colours, with the text of every cell; cells where `empty`, bool (R, C), are framed in red."""
    with _panels(1, width=1.8 + 0.36 * len(columns), height=1.3 + 0.34 * len(rows)) as (figure, (axis,)):
        axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(values.shape):
            color = "white" if values[row, column] > 0.55 else INK
            axis.text(column, row, cells[row][column], ha="center", va="center", fontsize=7.5, color=color)
            if empty[row, column]:
                axis.add_patch(Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fill=False, edgecolor=PALETTE[4], linewidth=1.5))
        axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
        axis.set_yticks(range(len(rows)), rows)
        axis.set(xlabel=xlabel)
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
    return figure
