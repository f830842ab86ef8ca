"""Figures of the annotation stages: reliability, precision against coverage, actions, and sheets of faces with words under them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from components.plots import INK, MUTED, PALETTE
from synfer.annotation.calibration import Reliability
from synfer.annotation.rectify import Curve, Thresholds

BLUE, ORANGE, GREEN, VIOLET, RED = PALETTE[:5]

_FACE, _CELL, _TEXT, _LINE, _WRAP = 192, 250, 13, 17, 34  # of a sheet: pixels of a face, a cell, the text and its lines; letters a line

_TOLD = 10  # images from which on a bin of a reliability diagram is drawn


def reliability_diagram(panels: Mapping[str, tuple[Reliability, Reliability]]) -> Figure:
    """One panel a member: accuracy against confidence before and after calibration, with 95 % intervals; dots grow with their images.

    Bins of fewer than `_TOLD` images tell nothing and are not drawn; they count in the ECE.
    """
    figure = Figure(figsize=(3.0 * len(panels), 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, (before, after)) in zip(axes, panels.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
        for diagram, color, when in ((before, ORANGE, "before"), (after, BLUE, "after")):
            told = diagram.count >= _TOLD
            confidence, accuracy = diagram.confidence[told], diagram.accuracy[told]
            sizes = 8 + 160 * diagram.count[told] / diagram.count.sum()
            axis.errorbar(confidence, accuracy, 1.96 * diagram.error[told], color=color, alpha=0.6, linewidth=1)
            axis.scatter(confidence, accuracy, sizes, color=color, label=f"{when}: ECE {diagram.ece:.3f}")
        axis.set(title=name, xlabel="confidence", xlim=(0, 1.03), ylim=(0, 1.03))
        axis.legend(frameon=False, fontsize=8, loc="upper left")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share right")
    return figure


def precision_coverage_figure(curves: Mapping[str, Curve], thresholds: Thresholds) -> Figure:
    """Precision against coverage of each rule, the wanted precision, and the point that was chosen."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axis = figure.add_subplot()
    colors = (BLUE, ORANGE, GREEN, VIOLET)
    for (name, curve), color in zip(curves.items(), colors, strict=False):
        enough = curve.coverage > 0.05  # the precision of a handful of images only rattles
        axis.plot(curve.coverage[enough], curve.precision[enough], color=color, label=name)
    axis.axhline(thresholds.target, color=MUTED, linestyle="--", linewidth=1, label=f"wanted precision {thresholds.target:.2f}")
    chosen = f"chosen: {thresholds.precision:.3f} at {thresholds.coverage:.0%}"
    axis.plot(thresholds.coverage, thresholds.precision, "o", color=RED, label=chosen)
    axis.set(xlabel="coverage: share of images labelled", ylabel="precision of the label", xlim=(0, 1.02))
    axis.legend(frameon=False, fontsize=8, loc="lower left")
    axis.grid(alpha=0.2)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def face_sheet(images: np.ndarray, words: Sequence[str], *, columns: int = 4) -> Image.Image:
    """Faces uint8 (N, H, W, 3) in a grid with a few words under each."""
    font, lines = ImageFont.load_default(size=_TEXT), [textwrap.wrap(text, _WRAP) for text in words]
    height = _FACE + (max(map(len, lines)) + 1) * _LINE
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * _CELL, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        x, y = index % columns * _CELL, index // columns * height
        sheet.paste(Image.fromarray(image).resize((_FACE, _FACE), Image.Resampling.BICUBIC), (x, y))
        draw.multiline_text((x, y + _FACE + 4), "\n".join(lines[index]), fill=INK, font=font, spacing=_LINE - _TEXT)
    return sheet


def action_bars(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """For each class, the shares of the actions as one stacked bar."""
    colors = {"keep": GREEN, "relabel": BLUE, "soften": "#f59e0b", "reject": RED}
    figure = Figure(figsize=(5.8, 1.1 + 0.38 * len(shares)), layout="constrained")
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
