"""Study ablation: the parts of the method one after the other, by what a judge sees in the faces and by what they teach."""

from __future__ import annotations

from matplotlib.figure import Figure

from components.plots import interval_bars
from components.studies import generation
from components.studies.cell import SYNTHETIC, Cell, Part
from components.studies.division import Sizes
from components.studies.pool import AUS, GUIDANCE, RECTIFICATION, TEXT
from components.studies.results import Comparison, Results
from components.studies.study import Study, TableOf
from components.studies.supervised import KIND, UNSCALED, budget
from synfer.config import Config

TITLES = {TEXT: "text", AUS: "+ AUs", GUIDANCE: "+ guidance", RECTIFICATION: "+ rectification"}
FACES = "faces: "


def cells(config: Config, sizes: Sizes, repeat: int) -> list[Cell]:
    """With the first seed, what the judge sees in the faces of every part; with every seed, a classifier trained on them."""
    parts = {drawn: (Part(SYNTHETIC, sizes.labelled, drawn),) for drawn in TITLES}
    judged = [Cell(STUDY.name, FACES + TITLES[drawn], repeat, generation.KIND, part, {}) for drawn, part in parts.items()]
    trained = [Cell(STUDY.name, TITLES[drawn], repeat, KIND, part, budget(config)) for drawn, part in parts.items()]
    return [*(judged if repeat == 0 else ()), *trained]


def comparisons(results: Results) -> list[Comparison]:
    """Every part against the method without it; of rectification only what it teaches, for it draws no other faces."""
    names = list(TITLES.values())
    steps = list(zip(names, names[1:], strict=False))
    downstream = [Comparison(ours, theirs, f"with {ours.removeprefix('+ ')} the faces teach more") for theirs, ours in steps]
    seen = [
        Comparison(FACES + ours, FACES + theirs, f"with {ours.removeprefix('+ ')} the judge sees more often what was asked", "accuracy")
        for theirs, ours in steps
        if ours != TITLES[RECTIFICATION]
    ]
    return [*downstream, Comparison(names[-1], names[0], "with the whole method the faces teach more than with text alone"), *seen]


def figure(results: Results, config: Config) -> Figure:
    """Judge accuracy and precision of the faces, and UAR of what was trained on them."""
    measures = {"judge agrees": (FACES, "accuracy"), "precision": (FACES, "precision"), "UAR downstream": ("", "uar")}
    series = {title: {name: results.figure(prefix + name, key) for name in TITLES.values()} for title, (prefix, key) in measures.items()}
    return interval_bars(series, ylabel="share")


def tables(results: Results) -> list[TableOf]:
    """Faces and classifiers have measures of their own."""
    faces, trained = ([prefix + name for name in TITLES.values()] for prefix in (FACES, ""))
    kid = {"KID, spread of its subsets": "kid", "KID floor": "kid_floor"}
    seen = {"judge agrees": "accuracy", **kid, "precision": "precision", "recall": "recall"}
    return [
        TableOf("The faces, by the judge; of + rectification those that are used, with their labels", tuple(faces), seen),
        TableOf("Classifiers trained on them, on real test faces", tuple(trained), STUDY.measures),
    ]


STUDY = Study(
    name="ablation",
    title="Parts of the method",
    question="What do action units, guidance and rectification add to text, for the faces and for what they teach?",
    method="The same plan of faces, with the same seeds, is drawn from text alone, with action units, and under guidance; rectification "
    "changes the labels of the last ones. A judge without any other role rates the faces; a classifier trained on them alone is tested on "
    "real ones. " + UNSCALED,
    measures={"UAR": "uar", "accuracy": "accuracy", "macro-F1": "macro_f1", "NLL": "nll", "ECE": "ece"},
    cells=cells,
    comparisons=comparisons,
    figure=figure,
    tables=tables,
)
