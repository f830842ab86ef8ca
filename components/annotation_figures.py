"""Figures of the annotation stages: reliability, precision against coverage, confusion, and sheets of faces with words under them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from synfer.annotation.calibration import Reliability
from synfer.annotation.rectify import Curve, Thresholds

BLUE, ORANGE, GREY, RED = "#2563eb", "#d97706", "#94a3b8", "#dc2626"


def learning_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """Training loss and validation UAR of every epoch."""
    figure = Figure(figsize=(5.6, 3.2))
    loss = figure.add_subplot()
    epochs = np.arange(1, len(history) + 1)
    loss.plot(epochs, [epoch["loss"] for epoch in history], color=GREY, label="training loss")
    loss.set(xlabel="epoch", ylabel="cross-entropy")
    uar = loss.twinx()
    uar.plot(epochs, [epoch["val_uar"] for epoch in history], color=BLUE, label="UAR on val")
    uar.set(ylabel="UAR", ylim=(0, 1))
    figure.legend(loc="upper center", ncols=2, frameon=False)
    return figure


def reliability_diagram(panels: Mapping[str, tuple[Reliability, Reliability]]) -> Figure:
    """One panel a member: accuracy against confidence before and after calibration; dots are as large as their share of images."""
    figure = Figure(figsize=(3.0 * len(panels), 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, (before, after)) in zip(axes, panels.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        for diagram, color, when in ((before, ORANGE, "before"), (after, BLUE, "after")):
            sizes = 8 + 160 * diagram.count / diagram.count.sum()
            axis.plot(diagram.confidence, diagram.accuracy, color=color, alpha=0.6, linewidth=1)
            axis.scatter(diagram.confidence, diagram.accuracy, sizes, color=color, label=f"{when}: ECE {diagram.ece:.3f}")
        axis.set(title=name, xlabel="confidence", xlim=(0, 1.03), ylim=(0, 1.03))
        axis.legend(frameon=False, fontsize=8, loc="upper left")
    axes[0].set_ylabel("share right")
    return figure


def precision_coverage_figure(curves: Mapping[str, Curve], thresholds: Thresholds) -> Figure:
    """Precision against coverage of each rule, the wanted precision, and the point that was chosen."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axis = figure.add_subplot()
    colors = (BLUE, ORANGE, "#059669", "#7c3aed")
    for (name, curve), color in zip(curves.items(), colors, strict=False):
        enough = curve.coverage > 0.05  # the precision of a handful of images only rattles
        axis.plot(curve.coverage[enough], curve.precision[enough], color=color, label=name)
    axis.axhline(thresholds.target, color=GREY, linestyle="--", linewidth=1, label=f"wanted precision {thresholds.target:.2f}")
    chosen = f"chosen: {thresholds.precision:.3f} at {thresholds.coverage:.0%}"
    axis.plot(thresholds.coverage, thresholds.precision, "o", color=RED, label=chosen)
    axis.set(xlabel="coverage: share of images labelled", ylabel="precision of the label", xlim=(0, 1.02))
    axis.legend(frameon=False, fontsize=8, loc="lower left")
    axis.grid(alpha=0.2)
    return figure


def confusion_figure(matrix: np.ndarray, classes: Sequence[str], *, rows: str, columns: str, percent: bool = True) -> Figure:
    """A matrix (K, K) of counts or shares as a heat map; colour is the share within a row, the cell shows per cent or the count."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)
    figure = Figure(figsize=(1.6 + 0.62 * len(classes), 1.2 + 0.55 * len(classes)), layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*matrix.shape):
        value = f"{100 * shares[row, column]:.0f}" if percent else f"{matrix[row, column]:.0f}"
        if value != "0":
            axis.text(column, row, value, ha="center", va="center", fontsize=9, color="white" if shares[row, column] > 0.55 else "#0f172a")
    axis.set_xticks(range(len(classes)), classes, rotation=40, ha="right")
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel=columns, ylabel=rows)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return figure


def face_sheet(images: np.ndarray, words: Sequence[str], *, columns: int = 4, wrap: int = 34) -> Figure:
    """Faces uint8 (N, H, W, 3) in a grid with a few words under each."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.35 * columns, 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, image, text in zip(axes, images, words, strict=False):
        axis.imshow(image, interpolation="bicubic")
        axis.set_title(textwrap.fill(text, wrap), fontsize=7, y=-0.04, va="top", loc="left")
    return figure


def action_bars(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """For each class, the shares of the actions as one stacked bar."""
    colors = {"keep": "#059669", "relabel": BLUE, "soften": "#f59e0b", "reject": RED}
    figure = Figure(figsize=(6.4, 0.9 + 0.36 * len(shares)), layout="constrained")
    axis = figure.add_subplot()
    left = np.zeros(len(shares))
    for action, color in colors.items():
        width = np.array([row[action] for row in shares.values()])
        axis.barh(list(shares), width, left=left, color=color, label=action, height=0.7)
        left += width
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share of the images asked for this expression")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure
