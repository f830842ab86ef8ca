"""What people look at: label error of every method against the noise, calibration before and after, faces with their reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL.Image import Image

from benchmarks.rectification.generated import Generated
from benchmarks.rectification.noise import KINDS
from benchmarks.rectification.report import method_means
from benchmarks.rectification.trial import RATES, Trial
from components.annotation_figures import face_sheet, reliability_diagram
from components.plots import MUTED, PALETTE, save_picture
from synfer.annotation.calibration import Reliability
from synfer.annotation.rectify import ACTIONS

_SHEET = 12


def error_curves(trials: Sequence[Trial]) -> Figure:
    """Label error left against label error injected, a panel a kind of noise, a line a method."""
    figure, means = Figure(figsize=(9.0, 3.8), layout="constrained"), method_means(trials)
    axes = figure.subplots(1, len(KINDS), sharey=True)
    for axis, kind in zip(axes, KINDS, strict=True):
        for method, color in zip(trials[0].after, PALETTE, strict=False):
            left = [means[(method, kind, rate)]["after"] for rate in RATES]
            axis.plot(RATES, left, color=MUTED if method == "nothing" else color, marker="o", markersize=3, label=method)
        axis.set(title=f"{kind} noise", xlabel="share of labels that are wrong before", ylim=(0, 0.25), xticks=RATES)
        axis.grid(alpha=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share wrong after")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def least_likely_intents(faces: Generated) -> Image:
    """The generated faces whose intent is least likely, with the reasons."""
    posterior = faces.rectified.posterior[np.arange(len(faces.intents)), faces.intents]
    rows = np.argsort(posterior, kind="stable")[:_SHEET]
    actions = faces.rectified.decisions.action
    words = [f"{ACTIONS[actions[row]]}: {faces.rectified.reasons[row]}" for row in rows]
    return face_sheet(faces.images[rows], words)


def save_figures(
    out: Path, *, trials: Sequence[Trial], diagrams: Mapping[str, tuple[Reliability, Reliability]], faces: Generated | None
) -> list[Path]:
    """Write what there is as PNG into `out`; returns the paths."""
    drawn: dict[str, Figure | Image] = {}
    if trials:
        drawn["label_error"] = error_curves(trials)
    if diagrams:
        drawn["reliability"] = reliability_diagram(diagrams)
    if faces is not None:
        drawn["least_likely_intents"] = least_likely_intents(faces)
    return [save_picture(figure, out / f"{name}.png") for name, figure in drawn.items()]
