"""Study scaling: what more generated faces are worth, beside real ones and beside real ones that the annotators have labelled."""

from __future__ import annotations

from matplotlib.figure import Figure

from components.plots import interval_curves
from components.studies.cell import LABELLED, SYNTHETIC, UNLABELLED, Cell, Part
from components.studies.division import Sizes
from components.studies.pool import RECTIFICATION
from components.studies.results import Comparison, Results
from components.studies.study import Study
from components.studies.supervised import KIND, UNSCALED, budget
from synfer.config import Config
from synfer.metrics.bootstrap import Interval

REAL, PSEUDO = "real", "pseudo-labels"
_WORTH_A_SECOND = 1.5  # times as many unlabelled faces as labelled ones, from which a second control is trained


def synthetic(multiple: int) -> str:
    """Name of an arm."""
    return f"synthetic {multiple}x"


def cells(config: Config, sizes: Sizes, repeat: int) -> list[Cell]:
    """Real alone, synthetic at every multiple, both together, and the control, at an equal number of steps."""
    count, multiples = sizes.labelled, sorted(config.studies.multiples)
    real = Part(LABELLED, count)
    drawn = {multiple: Part(SYNTHETIC, multiple * count, RECTIFICATION) for multiple in multiples}
    arms: dict[str, tuple[Part, ...]] = {REAL: (real,)}
    arms |= {synthetic(multiple): (part,) for multiple, part in drawn.items()}
    arms |= {f"{REAL} + {synthetic(multiple)}": (real, drawn[multiple]) for multiple in (multiples[0], multiples[-1])}
    if sizes.unlabelled:
        control = Part(UNLABELLED, min(count, sizes.unlabelled))
        arms |= {f"{PSEUDO} 1x": (control,), f"{REAL} + {PSEUDO} 1x": (real, control)}
        if sizes.unlabelled >= _WORTH_A_SECOND * count:
            most = min(sizes.unlabelled, multiples[-1] * count)
            arms[f"{PSEUDO} {most / count:.0f}x"] = (Part(UNLABELLED, most),)
    return [Cell(STUDY.name, arm, repeat, KIND, parts, budget(config)) for arm, parts in arms.items()]


def comparisons(results: Results) -> list[Comparison]:
    """The differences that answer the question, of the arms that there are."""
    arms = list(results.arms)
    first, *_, last = [arm for arm in arms if arm.startswith("synthetic ")] * 2
    wanted = [
        Comparison(last, first, "more generated faces teach more"),
        Comparison(first, REAL, "generated faces teach more than as many real ones"),
        Comparison(last, REAL, "many generated faces teach more than the real ones"),
        Comparison(f"{REAL} + {first}", REAL, "generated faces add to real ones"),
        Comparison(f"{REAL} + {last}", REAL, "many generated faces add to real ones"),
        Comparison(f"{REAL} + {last}", f"{REAL} + {first}", "many generated faces add more than few"),
        Comparison(first, f"{PSEUDO} 1x", "generated faces teach more than real ones that the annotators labelled"),
        Comparison(f"{REAL} + {first}", f"{REAL} + {PSEUDO} 1x", "generated faces add more than the annotators' labels do"),
    ]
    return [each for each in dict.fromkeys(wanted) if each.ours != each.theirs and {each.ours, each.theirs} <= set(arms)]


def figure(results: Results, config: Config) -> Figure:
    """UAR by the number of faces, one colour a kind of faces; the dashed line is the real training set alone."""
    series: dict[str, dict[float, Interval]] = {}
    for arm in results.arms:
        kind, _, multiple = arm.rpartition(" ")
        if arm != REAL:
            series.setdefault(kind, {})[float(multiple.removesuffix("x"))] = results.figure(arm, "uar")
    level = {"UAR on real test faces": results.figure(REAL, "uar")}
    panels = {"UAR on real test faces": series}
    xlabel = "faces, in multiples of the real training set"
    return interval_curves(panels, xlabel=xlabel, levels=level, level="real faces alone", width=7.5, spread=0.03)


def notes(results: Results, config: Config) -> list[str]:
    """Does it rise, and if not, what can be said of it."""
    drawn = [arm for arm in results.arms if arm.startswith("synthetic ")]
    if len(drawn) < 2:
        return ["Only one number of generated faces was tried; nothing can be said about growth."]
    rise = results.difference(Comparison(drawn[-1], drawn[0], ""))
    told = f"From {drawn[0]} to {drawn[-1]} UAR changes by {rise.value:+.3f} ({rise.low:+.3f} to {rise.high:+.3f})"
    if rise.low > 0:
        return [f"{told}: it rises, and the paired interval excludes 0."]
    verb = "falls, and the paired interval excludes 0" if rise.high < 0 else "does not rise: the paired interval holds 0"
    steps = [results.figure(arm, "uar").value for arm in drawn]
    path = ", ".join(f"{value:.3f}" for value in steps)
    least, most = (results.arms[arm].mean("steps") for arm in (drawn[0], drawn[-1]))
    assert least == most, "all arms have the same number of steps"
    images = {arm: results.arms[arm].mean("train_images") or 1.0 for arm in (drawn[0], drawn[-1])}
    seen = {arm: (least or 0.0) * config.classifiers.batch_size / count for arm, count in images.items()}
    return [
        f"{told}: it {verb}. The path is {path}.",
        f"Why: all arms make {least:,.0f} steps, so that a face of {drawn[0]} is seen {seen[drawn[0]]:.1f} times and one of {drawn[-1]} "
        f"{seen[drawn[-1]]:.1f} times. Either the later faces repeat what the first ones have shown, or this budget is too short to use "
        "them; a longer one (studies.steps) tells which.",
    ]


STUDY = Study(
    name="scaling",
    title="More generated faces",
    question="What are 1, 2, ... times as many generated faces worth as there are real ones, and do they rise above real faces that the "
    "annotators have labelled?",
    method="Every arm trains the same network from the same weights with the same number of optimiser steps, and chooses its epoch on real "
    "val faces. The control, pseudo-labels, are real faces of other people, labelled by the members that also rectify the generated ones: "
    "without it a gain may only be what these members know. " + UNSCALED,
    measures={"UAR": "uar", "accuracy": "accuracy", "macro-F1": "macro_f1", "NLL": "nll", "ECE": "ece"},
    cells=cells,
    comparisons=comparisons,
    figure=figure,
    notes=notes,
)
