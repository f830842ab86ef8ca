"""Cells that train a classifier: the same number of optimiser steps whatever the training set, the epoch chosen on real val faces."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.classifier_scores import RealFaces
from components.classifiers import recipe
from components.record import Metric
from components.studies.bench import Bench
from components.studies.cell import Cell, Outcome, Part
from synfer.classifiers.fit import fit
from synfer.classifiers.models import Network, create
from synfer.classifiers.predict import predict
from synfer.classifiers.sampling import epoch_rows
from synfer.config import Classifiers, Config
from synfer.metrics.classification import METRICS
from synfer.seeding import derive_seed

KIND = "supervised"
UNSCALED = (
    "NLL and ECE are of probabilities as they were trained, without a temperature: they tell what the targets were like (annotators' votes "
    "leave a network less sure than it is right, labels do not) more than what the faces are worth."
)
"""Of the pages whose arms learn from votes and from labels."""

_EPOCHS, _STEPS = 10, 50  # looks at val, of which the best is kept: at most so many, and so many steps apart


def budget(config: Config, *, phases: int = 1) -> dict[str, int]:
    """Settings that give every arm the same number of steps, whatever its training set: epochs of equally many rows.

    A small set is gone through several times an epoch, of a large one an epoch sees another part each time. With several `phases` the parts
    of the cell are learnt one after another, in equal shares of the steps.
    """
    steps = -(-config.studies.steps // phases)
    epochs = min(_EPOCHS // phases, -(-steps // _STEPS))
    found = {"epochs": epochs, "rows": -(-steps // epochs) * config.classifiers.batch_size}
    return found if phases == 1 else {**found, "phases": phases}


def run(cell: Cell, bench: Bench, work: Path) -> Outcome:
    """Train on the cell's parts, predict the real test split; the split is read after the training alone. `work` keeps a checkpoint."""
    started = time.perf_counter()
    model, found = trained(cell, bench, work)
    seconds = time.perf_counter() - started
    test = bench.test()
    probabilities = predict(model, test.images, device=bench.device)
    images, steps = sum(phase.images for phase in found), sum(phase.steps for phase in found)
    metrics = {
        "train_images": Metric(images, n=images), "steps": Metric(steps), "seconds": Metric(seconds),
        "val_uar": Metric(found[-1].val_uar, n=len(bench.val())), **test_metrics(test, probabilities),
    }  # fmt: skip
    return Outcome(metrics, predictions(test, probabilities, bench.common.expressions))


@dataclass(frozen=True)
class Phase:
    """What one phase saw and reached."""

    images: int
    steps: int
    val_uar: float


def trained(cell: Cell, bench: Bench, work: Path) -> tuple[Network, list[Phase]]:
    """The network that the cell's parts and settings make, and its phases; `work` keeps a checkpoint."""
    section = bench.config.classifiers.model_copy(update={**cell.settings.get("changes", {}), "patience": 0})  # equal steps
    model = create(
        section.backbone, bench.common.expressions, image_size=bench.common.image_size, seed=bench.seed(cell), dropout=section.dropout,
        drop_path=section.drop_path,
    )  # fmt: skip
    phases = [(part,) for part in cell.parts] if cell.settings.get("phases", 1) > 1 else [cell.parts]
    return model, [_phase(number, parts, model, section, cell, bench, work) for number, parts in enumerate(phases)]


def _phase(number: int, parts: Sequence[Part], model: Network, section: Classifiers, cell: Cell, bench: Bench, work: Path) -> Phase:
    """Train `model` on the parts together; it ends with the weights of its best epoch on val, from which the next phase goes on."""
    train, seed = bench.examples(parts, repeat=cell.repeat), bench.seed(cell)
    labels = train.targets.argmax(axis=1) if section.class_balanced else None
    draw = epoch_rows([len(train)], [1.0], rows=cell.settings["rows"], labels=labels, weights=train.weights)
    history = fit(
        model, train, bench.val(), epochs=cell.settings["epochs"], seed=seed if number == 0 else derive_seed(seed, "phase", number),
        device=bench.device, draw=draw, checkpoint=work / ("checkpoint" if number == 0 else f"checkpoint-{number}"), **recipe(section),
    )  # fmt: skip
    steps = cell.settings["epochs"] * -(-draw.rows // section.batch_size)
    return Phase(len(train), steps, max(epoch["val_uar"] for epoch in history))


def test_metrics(test: RealFaces, probabilities: np.ndarray) -> dict[str, Metric]:
    """The metrics of one training on the real test faces; their intervals come from all trainings of an arm together."""
    return {name: Metric(metric(test.truth, probabilities), n=len(test.truth)) for name, metric in METRICS.items()}


def predictions(test: RealFaces, probabilities: np.ndarray, classes: tuple[str, ...]) -> pd.DataFrame:
    """A row a test face: sample_id, identity, truth and a column a class."""
    columns = {f"p_{name}": probabilities[:, index] for index, name in enumerate(classes)}
    truth = [classes[index] for index in test.truth]
    identity = test.rows["identity"].to_numpy()
    return pd.DataFrame({"sample_id": test.rows["sample_id"].to_numpy(), "identity": identity, "truth": truth, **columns})
