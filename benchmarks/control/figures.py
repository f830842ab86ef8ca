"""What people look at: dose-response curves, the leakage matrix, and sheets of swept faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL.Image import Image

from benchmarks.control.response import matrix, targets
from benchmarks.control.sweep import KEPT_PEOPLE, LEVELS, Sweep, columns
from components.plots import GRID, INK, MUTED, PALETTE, save_picture
from synfer.faces.sheet import labelled_sheet
from synfer.vocabulary import AU_NAMES, MAX_INTENSITY

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "font.size": 8, "legend.frameon": False, "legend.fontsize": 10,
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "xtick.major.size": 0, "ytick.major.size": 0,
}  # fmt: skip
_COLUMNS = 6


def save_figures(drawn: Sweep, renders: Sweep, out: Path) -> list[Path]:
    """Write the figures as PNG into `out`; returns their paths."""
    with mpl.rc_context(_STYLE):
        figures = {"dose_response": dose_response(drawn, renders), "leakage": leakage_matrices(drawn, renders)}
        paths = [save_picture(figure, out / f"{name}.png") for name, figure in figures.items()]
    for person in range(drawn.images.shape[2]):
        paths.append(save_picture(sweep_sheet(drawn, person), out / f"sweep_{person}.png"))
    return [*paths, save_picture(sweep_sheet(renders, 0), out / "sweep_0_renders.png")]


def dose_response(drawn: Sweep, renders: Sweep) -> Figure:
    """Read against asked intensity, a panel an AU: generated faces beside renders, mean and middle 80 per cent of the people."""
    rows = -(-len(drawn.codes) // _COLUMNS)
    across = min(_COLUMNS, len(drawn.codes))
    figure = Figure(figsize=(0.6 + 1.75 * across, 0.9 + 1.7 * rows), layout="constrained")
    axes = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, code, ours, theirs in zip(axes, drawn.codes, targets(drawn), targets(renders), strict=False):
        axis.plot(LEVELS, LEVELS, color=MUTED, linewidth=1, linestyle="--")
        _band(axis, theirs, PALETTE[1], "renders")
        _band(axis, ours, PALETTE[0], "generated")
        axis.set(title=f"{code} {AU_NAMES[code]}", xlim=(-0.2, 5.2), ylim=(-0.2, 5.2), xticks=LEVELS, yticks=LEVELS)
    for axis in axes[len(drawn.codes) :]:
        axis.set_visible(False)
    figure.supxlabel("asked intensity")
    figure.supylabel("intensity read by the AU judge")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _band(axis: Axes, found: np.ndarray, color: str, label: str) -> None:
    """Mean (L,) of readings (L, P), and their 10th to 90th percentile."""
    axis.fill_between(LEVELS, *np.percentile(found, [10, 90], axis=1), color=color, alpha=0.18, linewidth=0)
    axis.plot(LEVELS, found.mean(axis=1), color=color, marker="o", markersize=3, linewidth=1.5, label=label)


def leakage_matrices(drawn: Sweep, renders: Sweep) -> Figure:
    """Change of every output (columns) from intensity 0 to 5 of every asked AU (rows); the framed cells are the asked ones."""
    height, width = 0.9 + 0.2 * len(drawn.codes), 1.0 + 0.2 * len(drawn.outputs)
    figure = Figure(figsize=(2 * width + 0.6, height + 0.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, sweep, title in zip(axes, (drawn, renders), ("generated", "renders: what the AUs share by themselves"), strict=True):
        shown = axis.imshow(matrix(sweep), cmap="RdBu_r", vmin=-MAX_INTENSITY, vmax=MAX_INTENSITY, aspect="auto")
        for row, code in enumerate(sweep.codes):
            for column in columns(sweep.outputs, code):
                axis.add_patch(mpl.patches.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=0.8))
        axis.set_xticks(range(len(sweep.outputs)), sweep.outputs, rotation=90)
        axis.set_yticks(range(len(sweep.codes)), sweep.codes)
        axis.set(title=title, xlabel="read")
        axis.grid(visible=False)
    axes[0].set_ylabel("asked")
    figure.colorbar(shown, ax=axes, label="change in intensity steps", shrink=min(1.0, 4.0 / height))
    return figure


def sweep_sheet(sweep: Sweep, person: int) -> Image:
    """One person: a row an asked AU, a column an intensity."""
    if person >= min(KEPT_PEOPLE, sweep.images.shape[2]):
        raise ValueError(f"faces of person {person} were not kept, only of the first {sweep.images.shape[2]}")
    faces = sweep.images[:, :, person]
    titles = [f"{level:.0f}" for _ in sweep.codes for level in LEVELS]
    rows = [f"{code} {AU_NAMES[code]}" for code in sweep.codes]
    scale = max(1, 128 // faces.shape[2])
    return labelled_sheet(faces.reshape(-1, *faces.shape[2:]), columns=len(LEVELS), row_titles=rows, titles=titles, scale=scale)
