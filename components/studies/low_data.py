"""Study low_data: what generated faces are worth where few real ones have labels, against augmentation and resampling of the few."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from components.plots import interval_curves
from components.studies.cell import LABELLED, SYNTHETIC, Cell, Part
from components.studies.division import Sizes
from components.studies.pool import RECTIFICATION
from components.studies.results import Comparison, Results
from components.studies.study import Study
from components.studies.supervised import KIND, UNSCALED, budget
from synfer.config import Config
from synfer.metrics.bootstrap import Interval

ALONE = "synthetic alone"
WITH, FIRST, AUGMENTED, RESAMPLED = "with synthetic", "synthetic first", "strong augmentation", "class-balanced"


def cells(config: Config, sizes: Sizes, repeat: int) -> list[Cell]:
    """Every share of the real faces alone, mixed with synthetic ones, after them, with strong augmentation, and with balanced classes."""
    generated = Part(SYNTHETIC, sizes.labelled, RECTIFICATION)
    settings: dict[str, Any] = budget(config)
    strong = {"randaugment": config.studies.randaugment, "mixup": config.studies.mixup}
    found = [Cell(STUDY.name, ALONE, repeat, KIND, (generated,), settings)]
    for share in sorted(config.studies.real_shares):
        name, real = _name(share), Part(LABELLED, max(len(config.common.expressions), round(share * sizes.labelled)))
        variants = {
            name: ((real,), settings),
            f"{name}, {WITH}": ((real, generated), settings),
            f"{name}, {FIRST}": ((generated, real), budget(config, phases=2)),
            f"{name}, {AUGMENTED}": ((real,), {**settings, "changes": strong}),
            f"{name}, {RESAMPLED}": ((real,), {**settings, "changes": {"class_balanced": True}}),
        }
        found += [Cell(STUDY.name, arm, repeat, KIND, parts, changed) for arm, (parts, changed) in variants.items()]
    return found


def comparisons(results: Results) -> list[Comparison]:
    """At every share each remedy against the real faces alone, and generated faces against the best other remedy's rivals."""
    arms = list(results.arms)
    shares = [arm for arm in arms if arm != ALONE and "," not in arm]
    found = []
    for share in shares:
        found += [
            Comparison(f"{share}, {WITH}", share, "generated faces help"),
            Comparison(f"{share}, {FIRST}", share, "learning from generated faces first helps"),
            Comparison(f"{share}, {AUGMENTED}", share, "stronger augmentation helps"),
            *([Comparison(f"{share}, {RESAMPLED}", share, "balanced classes help")] if _can_be_balanced(share, results) else []),
            Comparison(f"{share}, {WITH}", f"{share}, {AUGMENTED}", "generated faces help more than stronger augmentation"),
            Comparison(f"{share}, {FIRST}", f"{share}, {WITH}", "generated faces first, then the real ones, beats both mixed"),
        ]
    return found


def figure(results: Results, config: Config) -> Figure:
    """UAR by the number of real faces with labels, one colour a remedy; the dashed line is synthetic faces alone."""
    series: dict[str, dict[float, Interval]] = {}
    for arm in results.arms:
        share, _, remedy = arm.partition(", ")
        if arm != ALONE:
            images = results.arms[share].mean("train_images") or 0.0
            series.setdefault(remedy or "real alone", {})[images] = results.figure(arm, "uar")
    title = "UAR on real test faces"
    levels = {title: results.figure(ALONE, "uar")}
    return interval_curves({title: series}, xlabel="real faces with labels", levels=levels, level=ALONE, width=7.5, spread=0.06)


def _can_be_balanced(share: str, results: Results) -> bool:
    """Whether there is more than a face a class; of one a class both arms draw the same."""
    found = results.arms[share].probabilities
    return found is not None and (results.arms[share].mean("train_images") or 0) > found.shape[2]


def _name(share: float) -> str:
    return f"{100 * share:g} % real"


STUDY = Study(
    name="low_data",
    title="Few real faces",
    question="Where few real faces have labels, do generated ones help, and more than stronger augmentation or balanced classes?",
    method="A share of the real training set, another draw with every seed, alone and with as many generated faces as the whole real set "
    "has, mixed or learnt first. Every arm makes the same number of optimiser steps. Generator, guide and annotators are the same at every "
    "share: what they have learned from is in the table of models, and it is more than the share. The epoch is chosen on all val faces "
    "at every share. " + UNSCALED,
    measures={"UAR": "uar", "accuracy": "accuracy", "macro-F1": "macro_f1", "NLL": "nll", "ECE": "ece"},
    cells=cells,
    comparisons=comparisons,
    figure=figure,
)
