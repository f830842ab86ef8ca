"""Study zero_shot: classes by their words alone, after training on faces and captions, real ones, generated ones, or both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from components.plots import interval_dots
from components.record import Metric
from components.studies.bench import Bench
from components.studies.cell import Cell, Outcome
from components.studies.division import Sizes
from components.studies.representation import sources
from components.studies.results import Comparison, Results
from components.studies.study import Study
from components.studies.supervised import predictions, test_metrics
from synfer.captions import caption
from synfer.classifiers.image_text import ImageText
from synfer.classifiers.loop import Schedule
from synfer.classifiers.zero_shot import fit_image_text
from synfer.config import Config
from synfer.metrics.classification import UAR
from synfer.vocabulary import ATTRIBUTES

KIND = "zero_shot"


def cells(config: Config, sizes: Sizes, repeat: int) -> list[Cell]:
    """An image-text model a source, about as many steps each."""
    found = []
    for source, parts in sources(config, sizes).items():
        images = sum(part.count for part in parts)
        batches = max(1, -(-images // config.classifiers.pretrain_batch_size))
        settings = {"epochs": max(1, round(config.studies.image_text_steps / batches)), "rows": images}
        found.append(Cell(STUDY.name, source, repeat, KIND, parts, settings))
    return found


def run(cell: Cell, bench: Bench, work: Path) -> Outcome:
    """Train on faces with captions, choose the epoch on val, classify the test faces by the prompts of the classes."""
    started = time.perf_counter()
    section, val, prompts = bench.config.classifiers, bench.val(), class_prompts(bench.common.expressions)
    images, captions = bench.captioned(cell.parts, repeat=cell.repeat)

    def score(model: ImageText) -> dict[str, float]:
        return {"val_uar": UAR(val.targets.argmax(axis=1), model.probabilities(val.images, prompts))}

    schedule = Schedule(cell.settings["epochs"], section.pretrain_batch_size, section.learning_rate, precision=section.precision)
    model = fit_image_text(
        images, captions, backbone=section.backbone, schedule=schedule, seed=bench.seed(cell), device=bench.device, score=score,
        checkpoint=work / "checkpoint",
    )  # fmt: skip
    test = bench.test()
    probabilities = np.asarray(model.probabilities(test.images, prompts))
    metrics = {"train_images": Metric(len(images), n=len(images)), "seconds": Metric(time.perf_counter() - started)}
    return Outcome({**metrics, **test_metrics(test, probabilities)}, predictions(test, probabilities, bench.common.expressions))


def class_prompts(expressions: Sequence[str]) -> dict[str, list[str]]:
    """Captions of every class, as people of both sexes and all ages show it."""
    people = [{"sex": sex, "age": age} for sex in ATTRIBUTES["sex"] for age in ATTRIBUTES["age"]]
    return {name: [caption(name, attributes=person) for person in people] for name in expressions}


def comparisons(results: Results) -> list[Comparison]:
    """The sources against one another."""
    return [
        Comparison("synthetic", "real", "captions of generated faces teach more than those of the real ones"),
        Comparison("real + synthetic", "real", "generated faces and captions add to real ones"),
    ]


def figure(results: Results, config: Config) -> Figure:
    """UAR and accuracy of every source; the dashed line is chance."""
    series = {title: {arm: results.figure(arm, key) for arm in results.arms} for title, key in (("UAR", "uar"), ("accuracy", "accuracy"))}
    title = "on real test faces, by prompts"
    return interval_dots({title: series}, xlabel="UAR, accuracy", levels={title: _chance(config)}, level="chance")


def notes(results: Results, config: Config) -> list[str]:
    """What guessing would reach, and who is above it."""
    chance = _chance(config)
    above = [arm for arm in results.arms if results.figure(arm, "uar").low > chance]
    steps = f"{config.studies.image_text_steps:,} steps of {config.classifiers.pretrain_batch_size} faces"
    return [f"Chance: {chance:.3f}. After about {steps}, above it with the whole interval: {', '.join(above) or 'no source'}."]


def _chance(config: Config) -> float:
    return 1 / len(config.common.expressions)


STUDY = Study(
    name="zero_shot",
    title="Classes by their words",
    question="After training on faces and their captions alone, how well does a model find the expression that a prompt names?",
    method="An image encoder and a small text encoder learn together to put a face beside its caption (contrastive, as CLIP), about as "
    "many steps in every arm. No class label is used but to choose the epoch, on val; captions name the expression where somebody has said "
    "it: this measures how well words carry a class, not whether a class can be guessed that no caption ever named. A class is the mean "
    "direction of its prompts.",
    measures={"UAR": "uar", "accuracy": "accuracy", "macro-F1": "macro_f1", "NLL": "nll", "ECE": "ece"},
    cells=cells,
    comparisons=comparisons,
    figure=figure,
    notes=notes,
)
