"""Study few_shot: a few labelled faces a class, in features of encoders that were trained without labels, or as classifiers.

A classifier's penultimate features are an embedding in which prototypes (Snell et al. 2017, arXiv:1703.05175) can be formed without any
meta-training (Chen et al. 2019, arXiv:1904.04232; Tian et al. 2020, arXiv:2003.11539). What is new differs: encoders that have seen no
label know no class at all, while the basic expressions are the very classes of the supervised ones, whose basic episodes therefore measure
how well known classes lie together, and not few-shot learning. Compound expressions are new to every encoder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from components.plots import interval_dots
from components.record import Metric
from components.studies import scaling
from components.studies.bench import Bench
from components.studies.cell import Cell, Outcome
from components.studies.division import Sizes
from components.studies.encoders import COMPOUND, RANDOM, SUPERVISED, TEST, compound_faces, encoded
from components.studies.representation import encoder_cells
from components.studies.results import ASKED, HITS, Comparison, Results
from components.studies.study import Study, TableOf
from synfer.classifiers.few_shot import query_hits
from synfer.config import Config
from synfer.seeding import derive_seed
from synfer.vocabulary import COMPOUNDS

KIND = "few_shot"
BASIC, NEW = "basic", "compound"
_TITLES = {NEW: "Compound expressions, new to all", BASIC: "Basic expressions, known to supervised"}


def measure(kind: str, shots: int) -> str:
    """Name of an accuracy."""
    return f"{kind} {shots}-shot"


def cells(config: Config, sizes: Sizes, repeat: int) -> list[Cell]:
    """The encoders of study representation and classifiers of study scaling, in episodes of every number of shots."""
    section = config.studies
    episodes = {"shots": sorted(section.shots), "queries": section.queries, "episodes": section.episodes, "rows": "faces"}
    found = [*encoder_cells(STUDY.name, KIND, config, sizes, repeat), *_supervised_cells(config, sizes, repeat)]
    return [Cell(cell.study, cell.arm, repeat, KIND, cell.parts, {**cell.settings, **episodes}) for cell in found]


def _supervised_cells(config: Config, sizes: Sizes, repeat: int) -> list[Cell]:
    """The trainings of study scaling on real faces, on the fewest generated ones, and on both: same faces, steps, and seeds."""
    fewest = scaling.synthetic(min(config.studies.multiples))
    arms = (scaling.REAL, fewest, f"{scaling.REAL} + {fewest}")
    found = [cell for cell in scaling.cells(config, sizes, repeat) if cell.arm in arms]
    return [
        Cell(STUDY.name, f"{SUPERVISED}, {cell.arm}", repeat, KIND, cell.parts, {"encoder": {"method": SUPERVISED, **cell.settings}})
        for cell in found
    ]


def run(cell: Cell, bench: Bench, work: Path) -> Outcome:
    """How often real test faces, and rendered ones of compound expressions, are recognised; the same episodes for every encoder."""
    started = time.perf_counter()
    found, test, compounds = encoded(cell, bench, work), bench.test(), compound_faces(bench)
    rows = test.rows[["sample_id", "identity"]]
    parts = [_hits(BASIC, found.of[TEST], test.truth, rows, cell.settings, bench)]
    if compounds is not None:
        ids = [f"{NEW}-{number:05d}" for number in range(len(compounds.labels))]
        rows = pd.DataFrame({"sample_id": ids, "identity": ids})  # each is of a person of its own
        parts.append(_hits(NEW, found.of[COMPOUND], compounds.labels, rows, cell.settings, bench))
    hits = pd.concat(parts, ignore_index=True).fillna(0)  # a face is not asked in episodes of the other kind
    images = sum(part.count for part in cell.parts)
    metrics = {"train_images": Metric(images, n=images), "seconds": Metric(time.perf_counter() - started)}
    return Outcome({**metrics, **_shares(hits)}, hits)


def _hits(
    kind: str, features: np.ndarray, labels: np.ndarray, rows: pd.DataFrame, settings: Mapping[str, Any], bench: Bench
) -> pd.DataFrame:
    """The rows with how often each face was recognised and asked in the episodes of every number of shots."""
    columns: dict[str, np.ndarray] = {}
    for shots in settings["shots"]:
        name = measure(kind, shots)
        columns[HITS + name], columns[ASKED + name] = query_hits(
            features, np.asarray(labels), ways=len(np.unique(labels)), shots=shots, queries=settings["queries"],
            episodes=settings["episodes"], seed=derive_seed(bench.common.seed, "studies", "episodes", kind, shots),
        )  # fmt: skip
    return rows.assign(**columns)


def _shares(hits: pd.DataFrame) -> dict[str, Metric]:
    """Share of right answers of every measure; n is how many faces were asked."""
    found = {}
    for name in (column.removeprefix(HITS) for column in hits.columns if column.startswith(HITS)):
        right, asked = hits[HITS + name], hits[ASKED + name]
        found[name] = Metric(float(right.sum() / asked.sum()), n=int((asked > 0).sum()))
    return found


def comparisons(results: Results) -> list[Comparison]:
    """For each measure, of what is new to all first: the sources against one another, against fresh weights, and labels against none."""
    measures = sorted(results.measures(RANDOM), key=lambda name: not name.startswith(NEW))
    return [each for name in measures for each in _comparisons(list(results.arms), name)]


def _comparisons(arms: Sequence[str], name: str) -> list[Comparison]:
    """The differences of one measure; what a supervised encoder does with the classes that it knows is said to be that."""
    new = name.startswith(NEW)
    methods = sorted({arm.split(", ")[0] for arm in arms if ", " in arm}, key=lambda method: (method != SUPERVISED, method))
    found, labelled = [], f"{SUPERVISED}, {scaling.REAL}"
    for method in methods:
        real, synthetic, both = (arm for arm in arms if arm.startswith(f"{method}, "))
        told, known = ("training with labels", "" if new else " (known classes)") if method == SUPERVISED else (method, "")
        pairs = {
            (synthetic, real): f"{told}: generated faces help more than the real ones{known}",
            (both, real): f"{told}: generated faces add to real ones{known}",
            (real, RANDOM): f"{told} on real faces helps to recognise from few{known}",
            (synthetic, RANDOM): f"{told} on generated faces helps to recognise from few{known}",
        }
        if new and method != SUPERVISED:
            pairs[labelled, real] = f"on real faces, training with labels helps more than {method}"
        found += [Comparison(ours, theirs, words, name) for (ours, theirs), words in pairs.items()]
    return found


def figure(results: Results, config: Config) -> Figure:
    """Accuracy of every encoder, a panel a kind of classes, one colour a number of shots; the dashed line is chance."""
    panels, levels = {}, {}
    for kind, chance in _chances(results, config).items():
        measures = _measures(results, kind)
        panels[_TITLES[kind]] = {shots: {arm: results.figure(arm, name) for arm in results.arms} for shots, name in measures.items()}
        levels[_TITLES[kind]] = chance
    return interval_dots(panels, xlabel="share of queries recognised", levels=levels, level="chance")


def tables(results: Results) -> list[TableOf]:
    """One table a kind of classes that there were; its columns are the numbers of shots."""
    found = {kind: _measures(results, kind) for kind in (NEW, BASIC)}
    return [TableOf(_TITLES[kind], tuple(results.arms), measures) for kind, measures in found.items() if measures]


def notes(results: Results, config: Config) -> list[str]:
    """What is new to whom, what guessing would reach, and who is above it."""
    chances = _chances(results, config)
    new = "Compound expressions are new to every encoder." if NEW in chances else "Nothing here is new to supervised encoders."
    known = "Basic expressions are not new to supervised encoders, which are classifiers of these very classes"
    chance = ", ".join(f"{kind} {value:.3f}" for kind, value in chances.items())
    above: dict[str, list[str]] = {}
    for name, value in ((name, value) for kind, value in chances.items() for name in _measures(results, kind).values()):
        above.setdefault(_above(results, name, value), []).append(name)
    told = [f"Above chance with the whole interval, {', '.join(names)}: {arms}." for arms, names in above.items()]
    return [f"{new} {known}: their basic episodes say only how well known classes lie together.", f"Chance: {chance}.", *told]


def _above(results: Results, name: str, chance: float) -> str:
    return "; ".join(arm for arm in results.arms if results.figure(arm, name).low > chance) or "no encoder"


def _chances(results: Results, config: Config) -> dict[str, float]:
    """What guessing reaches in each kind of episode that there was, with all classes of the kind; what is new to all first."""
    found = {NEW: 1 / len(COMPOUNDS), BASIC: 1 / len(config.common.expressions)}
    return {kind: chance for kind, chance in found.items() if _measures(results, kind)}


def _measures(results: Results, kind: str) -> dict[str, str]:
    """The measures of a kind of episode by their number of shots."""
    return {name.removeprefix(f"{kind} "): name for name in results.measures(RANDOM) if name.startswith(kind)}


STUDY = Study(
    name="few_shot",
    title="Few shots",
    question="How well are expressions recognised from one or a few faces of each class: basic ones, and compound ones, which are new to "
    "every encoder?",
    method="Prototypical episodes: the mean feature of a class's few labelled faces is its prototype, a query belongs to the nearest one. "
    "All classes take part in every episode. There are three kinds of encoders: fresh weights; those of study representation, which have "
    "seen no label; and classifiers of study scaling, trained with the labels of the basic expressions, of which the penultimate features "
    "are taken. To these the basic expressions are not new; the compound ones are, though each joins two basic ones. Basic episodes are "
    "of real test faces, compound ones of faces that the procedural renderer draws; chance is one over the number of classes, 7 and 11 "
    "unless the configuration names fewer. Episodes that hold the same faces are not independent, so intervals are over the people who are "
    "recognised, and over trainings.",
    measures={},
    cells=cells,
    comparisons=comparisons,
    figure=figure,
    notes=notes,
    tables=tables,
)
