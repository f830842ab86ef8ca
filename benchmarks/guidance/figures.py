"""What people look at: judge accuracy, gap and precision against lambda, and the same faces under every form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL.Image import Image

from benchmarks.guidance.arms import FORMS, UNGUIDED, Arm, Drawn
from benchmarks.guidance.report import Figures
from components.plots import interval_curves, save_picture
from synfer.faces.sheet import labelled_sheet

_PANELS = {"judge accuracy": "judge", "guide minus judge": "gap", "precision": "precision", "drift from the unguided face": "feature_drift"}
_COLUMNS = 14


def save_figures(
    found: Figures, drawn: Mapping[Arm, Drawn], picked: Mapping[str, Arm], expressions: Sequence[str], out: Path
) -> list[Path]:
    """Write the plot, a sheet of the picked arms and one of all strengths as PNG into `out`; returns their paths."""
    return [
        save_picture(curves(found), out / "lambda.png"),
        save_picture(sheet(drawn, list(picked.values()), expressions), out / "forms.png"),
        save_picture(sheet(drawn, list(drawn), expressions), out / "strengths.png"),
    ]


def curves(found: Figures) -> Figure:
    """A panel a figure against lambda: one colour a form, the unguided value as a line."""
    panels = {
        title: {form: {arm.strength: figures[name] for arm, figures in found.items() if arm.form == form} for form in FORMS}
        for title, name in _PANELS.items()
    }
    levels = {title: found[UNGUIDED][name] for title, name in _PANELS.items()}
    return interval_curves(panels, xlabel="lambda", levels=levels, level="unguided")


def sheet(drawn: Mapping[Arm, Drawn], shown: Sequence[Arm], expressions: Sequence[str]) -> Image:
    """A row an arm: the first faces of the plan, unselected, of the same seeds in every row."""
    columns = min(_COLUMNS, len(expressions))
    faces = np.concatenate([drawn[arm].images[:columns] for arm in shown])
    scale = max(1, 128 // faces.shape[1])
    return labelled_sheet(faces, columns=columns, row_titles=[str(arm) for arm in shown], column_titles=expressions[:columns], scale=scale)
