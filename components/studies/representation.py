"""Study representation: what encoders learn from faces without labels, real ones, generated ones, or both, read by a linear probe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from components.plots import interval_bars
from components.record import Metric
from components.studies.bench import Bench
from components.studies.cell import LABELLED, SYNTHETIC, UNLABELLED, Cell, Outcome, Part
from components.studies.division import Sizes
from components.studies.encoders import RANDOM, TEST, TRAIN, VAL, encoded, encoder_settings
from components.studies.pool import RECTIFICATION
from components.studies.results import Comparison, Results
from components.studies.study import Study, TableOf
from components.studies.supervised import predictions, test_metrics
from synfer.classifiers.neighbours import knn_probabilities
from synfer.classifiers.probe import linear_probe
from synfer.config import Config

KIND = "representation"
PROBE, NEIGHBOURS = "linear probe", "k-NN"
ALL_REAL = "all real"


def sources(config: Config, sizes: Sizes) -> dict[str, tuple[Part, ...]]:
    """What an encoder may learn from: real faces, as many generated ones as study scaling draws, or both."""
    real = Part(LABELLED, sizes.labelled)
    synthetic = Part(SYNTHETIC, max(config.studies.multiples) * sizes.labelled, RECTIFICATION)
    return {"real": (real,), "synthetic": (synthetic,), "real + synthetic": (real, synthetic)}


def encoder_cells(
    study: str, kind: str, config: Config, sizes: Sizes, repeat: int, *, more: Mapping[str, tuple[Part, ...]] | None = None
) -> list[Cell]:
    """A cell an encoder: fresh weights, and every method on every source, and on those that are named in `more`."""
    found = [Cell(study, RANDOM, repeat, kind, (), {"encoder": encoder_settings(config, RANDOM, 0)})]
    for method in config.studies.methods:
        for source, parts in {**sources(config, sizes), **(more or {})}.items():
            settings = encoder_settings(config, method, sum(part.count for part in parts))
            found.append(Cell(study, f"{method}, {source}", repeat, kind, parts, {"encoder": settings}))
    return found


def cells(config: Config, sizes: Sizes, repeat: int) -> list[Cell]:
    """Every encoder, read by a linear probe and by its nearest neighbours; real faces without labels are a source of their own here."""
    faces = {ALL_REAL: (Part(LABELLED, sizes.labelled), Part(UNLABELLED, sizes.unlabelled))} if sizes.unlabelled else {}
    found = encoder_cells(STUDY.name, KIND, config, sizes, repeat, more=faces)
    return [
        Cell(STUDY.name, f"{cell.arm} ({reader})", repeat, KIND, cell.parts, {**cell.settings, "reader": reader})
        for cell in found
        for reader in (PROBE, NEIGHBOURS)
    ]


def run(cell: Cell, bench: Bench, work: Path) -> Outcome:
    """Read the encoder's features of the test faces by what the labelled training faces teach."""
    started = time.perf_counter()
    found = encoded(cell, bench, work)
    train, val, classes = bench.examples([Part(LABELLED, len(bench.labelled))], repeat=0), bench.val(), bench.common.expressions
    test = bench.test()
    if cell.settings["reader"] == PROBE:
        probe = linear_probe(found.of[TRAIN], train.targets, found.of[VAL], val.targets, classes=classes)
        probabilities = probe.probabilities(found.of[TEST])
    else:
        probabilities = knn_probabilities(found.of[TRAIN], train.targets.argmax(axis=1), found.of[TEST], classes=classes)
    images = sum(part.count for part in cell.parts)
    metrics = {"train_images": Metric(images, n=images), "seconds": Metric(time.perf_counter() - started)}
    return Outcome({**metrics, **test_metrics(test, probabilities)}, predictions(test, np.asarray(probabilities), classes))


def comparisons(results: Results) -> list[Comparison]:
    """With the linear probe: every encoder against fresh weights, and the sources against one another."""
    arms = list(results.arms)
    found = []
    methods = list(dict.fromkeys(arm.split(",")[0] for arm in arms if "," in arm))
    for method in methods:
        real, synthetic, both = (f"{method}, {source} ({PROBE})" for source in ("real", "synthetic", "real + synthetic"))
        found += [
            Comparison(real, f"{RANDOM} ({PROBE})", f"{method} on real faces learns something"),
            Comparison(synthetic, f"{RANDOM} ({PROBE})", f"{method} on generated faces learns something"),
            Comparison(synthetic, real, f"{method} learns more from many generated faces than from the real ones with labels"),
            Comparison(synthetic, f"{method}, {ALL_REAL} ({PROBE})", f"{method} learns more from generated faces than from all real ones"),
            Comparison(both, real, f"generated faces add to what {method} learns from real ones"),
        ]
    return [each for each in found if each.theirs in arms]  # all real faces may have labels


def figure(results: Results, config: Config) -> Figure:
    """UAR of every encoder by both readers."""
    encoders = list(dict.fromkeys(arm.rpartition(" (")[0] for arm in results.arms))
    series = {
        reader: {encoder.replace(", ", "\n"): results.figure(f"{encoder} ({reader})", "uar") for encoder in encoders}
        for reader in (PROBE, NEIGHBOURS)
    }
    return interval_bars(series, ylabel="UAR on real test faces")


def tables(results: Results) -> list[TableOf]:
    """One table a reader."""
    return [
        TableOf(f"By {reader}, on real test faces", tuple(arm for arm in results.arms if arm.endswith(f"({reader})")), STUDY.measures)
        for reader in (PROBE, NEIGHBOURS)
    ]


STUDY = Study(
    name="representation",
    title="Representations without labels",
    question="What does self-supervised pre-training learn from generated faces, beside real ones?",
    method="Every encoder makes about the same number of optimiser steps, in whole epochs, and sees no label; random is the network with "
    "fresh weights. Then its features are frozen: a linear probe, or the nearest neighbours, learn expressions from the labelled real "
    "training faces, and are tested on real ones. Generated faces are as many as study scaling draws at most; all real are the faces with "
    "labels and those without.",
    measures={"UAR": "uar", "accuracy": "accuracy", "macro-F1": "macro_f1", "NLL": "nll", "ECE": "ece"},
    cells=cells,
    comparisons=comparisons,
    figure=figure,
    tables=tables,
)
