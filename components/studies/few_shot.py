"""Study few_shot: a few labelled faces a class, in features learned without labels; compound expressions as classes new to all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from components.plots import interval_bars
from components.record import Metric
from components.studies.bench import Bench
from components.studies.cell import Cell, Outcome
from components.studies.division import Sizes
from components.studies.encoders import COMPOUND, RANDOM, TEST, compound_faces, encoded
from components.studies.representation import encoder_cells
from components.studies.results import VALUE, Comparison, Results
from components.studies.study import Study, TableOf
from synfer.classifiers.few_shot import few_shot
from synfer.config import Config
from synfer.seeding import derive_seed
from synfer.vocabulary import COMPOUNDS

KIND = "few_shot"
BASIC, NEW = "basic", "compound"


def measure(kind: str, shots: int) -> str:
    """Name of an accuracy."""
    return f"{kind} {shots}-shot"


def cells(config: Config, sizes: Sizes, repeat: int) -> list[Cell]:
    """The encoders of study representation, in episodes of every number of shots."""
    episodes = {"shots": sorted(config.studies.shots), "queries": config.studies.queries, "episodes": config.studies.episodes}
    found = encoder_cells(STUDY.name, KIND, config, sizes, repeat)
    return [Cell(cell.study, cell.arm, repeat, KIND, cell.parts, {**cell.settings, **episodes}) for cell in found]


def run(cell: Cell, bench: Bench, work: Path) -> Outcome:
    """Accuracy of every episode on real test faces, and on rendered faces of compound expressions; the same episodes for every encoder."""
    started = time.perf_counter()
    found, test, settings = encoded(cell, bench, work), bench.test(), cell.settings
    kinds = {BASIC: (found.of[TEST], test.truth)}
    if (compounds := compound_faces(bench)) is not None:
        kinds[NEW] = (found.of[COMPOUND], compounds.labels)
    columns = {}
    for kind, (features, labels) in kinds.items():
        for shots in settings["shots"]:
            seed = derive_seed(bench.common.seed, "studies", "episodes", kind, shots)
            columns[f"{VALUE}_{measure(kind, shots)}"] = few_shot(
                features, np.asarray(labels), ways=len(np.unique(labels)), shots=shots, queries=settings["queries"],
                episodes=settings["episodes"], seed=seed,
            )  # fmt: skip
    images = sum(part.count for part in cell.parts)
    metrics = {"train_images": Metric(images, n=images), "seconds": Metric(time.perf_counter() - started)}
    means = {name.removeprefix(f"{VALUE}_"): Metric(float(values.mean()), n=len(values)) for name, values in columns.items()}
    ids = [f"episode-{number:05d}" for number in range(settings["episodes"])]
    return Outcome({**metrics, **means}, pd.DataFrame({"sample_id": ids, **columns}))


def comparisons(results: Results) -> list[Comparison]:
    """In every kind of episode the sources against one another, and against fresh weights."""
    return [each for name in results.measures(RANDOM) for each in _comparisons(list(results.arms), name)]


def _comparisons(arms: Sequence[str], name: str) -> list[Comparison]:
    found = []
    for method in dict.fromkeys(arm.split(",")[0] for arm in arms if "," in arm):
        real, synthetic, both = (f"{method}, {source}" for source in ("real", "synthetic", "real + synthetic"))
        pairs = {
            (real, RANDOM): f"{method} on real faces helps to recognise from few",
            (synthetic, RANDOM): f"{method} on generated faces helps to recognise from few",
            (synthetic, real): "generated faces help more than the real ones",
            (both, real): "generated faces add to real ones",
        }
        found += [Comparison(ours, theirs, words, name) for (ours, theirs), words in pairs.items()]
    return found


def figure(results: Results) -> Figure:
    """Accuracy of every encoder, one colour a kind of episode."""
    measures = results.measures(next(iter(results.arms)))
    series = {name: {arm.replace(", ", "\n"): results.figure(arm, name) for arm in results.arms} for name in measures}
    return interval_bars(series, ylabel="accuracy of an episode")


def tables(results: Results) -> list[TableOf]:
    """One table; its columns are the kinds of episodes that there were."""
    measures = results.measures(next(iter(results.arms)))
    return [TableOf("Accuracy of episodes", tuple(results.arms), {name: name for name in measures})]


def notes(results: Results, config: Config) -> list[str]:
    """What guessing would reach: an episode has all classes of its kind."""
    found = [f"{BASIC} {1 / len(config.common.expressions):.3f}"]
    found += [f"{NEW} {1 / len(COMPOUNDS):.3f}"] if config.studies.compound_faces else []
    return [f"Chance: {', '.join(found)}."]


STUDY = Study(
    name="few_shot",
    title="Few shots",
    question="How well are expressions recognised from one or a few faces of each class, and compound expressions, classes new to all?",
    method="Prototypical episodes: the mean feature of a class's few labelled faces is its prototype, and a query belongs to the nearest "
    "one. All classes take part in every episode; the encoders, those of study representation, have seen no label. Basic episodes are of "
    "real test faces, compound ones of faces that the procedural renderer draws; chance is one over the number of classes, 7 and 11 unless "
    "the configuration names fewer. Intervals are over episodes and trainings.",
    measures={},
    cells=cells,
    comparisons=comparisons,
    figure=figure,
    notes=notes,
    tables=tables,
)
