"""Cells that train a classifier: the same number of optimiser steps whatever the training set, the epoch chosen on real val faces."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from components.classifier_scores import RealFaces
from components.classifiers import recipe
from components.record import Metric
from components.studies.bench import Bench
from components.studies.cell import Cell, Outcome
from synfer.classifiers.fit import fit
from synfer.classifiers.models import create
from synfer.classifiers.predict import predict
from synfer.classifiers.sampling import epoch_rows
from synfer.config import Config
from synfer.metrics.classification import METRICS

KIND = "supervised"
_EPOCHS, _STEPS = 10, 50  # looks at val, of which the best is kept: at most so many, and so many steps apart


def budget(config: Config) -> dict[str, int]:
    """Settings that give every arm the same number of steps, whatever its training set: epochs of equally many rows.

    A small set is gone through several times an epoch, of a large one an epoch sees another part each time.
    """
    epochs = min(_EPOCHS, -(-config.studies.steps // _STEPS))
    return {"epochs": epochs, "rows": -(-config.studies.steps // epochs) * config.classifiers.batch_size}


def run(cell: Cell, bench: Bench, work: Path) -> Outcome:
    """Train on the cell's parts, predict the real test split; the split is read after the training alone. `work` keeps a checkpoint."""
    section = bench.config.classifiers.model_copy(update={**cell.settings.get("changes", {}), "patience": 0})  # equal steps
    settings, seed = cell.settings, bench.seed(cell)
    train, val = bench.examples(cell.parts, repeat=cell.repeat), bench.val()
    labels = train.targets.argmax(axis=1) if section.class_balanced else None
    draw = epoch_rows([len(train)], [1.0], rows=settings["rows"], labels=labels, weights=train.weights)
    model = create(
        section.backbone, bench.common.expressions, image_size=bench.common.image_size, seed=seed, dropout=section.dropout,
        drop_path=section.drop_path,
    )  # fmt: skip
    started = time.perf_counter()
    history = fit(
        model, train, val, epochs=settings["epochs"], seed=seed, device=bench.device, draw=draw, checkpoint=work / "checkpoint",
        **recipe(section),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    test = bench.test()
    probabilities = predict(model, test.images, device=bench.device)
    steps = settings["epochs"] * -(-draw.rows // section.batch_size)
    metrics = {
        "train_images": Metric(len(train), n=len(train)), "steps": Metric(steps), "seconds": Metric(seconds),
        "val_uar": Metric(max(epoch["val_uar"] for epoch in history), n=len(val)), **test_metrics(test, probabilities),
    }  # fmt: skip
    return Outcome(metrics, predictions(test, probabilities, bench.common.expressions))


def test_metrics(test: RealFaces, probabilities: np.ndarray) -> dict[str, Metric]:
    """The metrics of one training on the real test faces; their intervals come from all trainings of an arm together."""
    return {name: Metric(metric(test.truth, probabilities), n=len(test.truth)) for name, metric in METRICS.items()}


def predictions(test: RealFaces, probabilities: np.ndarray, classes: tuple[str, ...]) -> pd.DataFrame:
    """A row a test face: sample_id, identity, truth and a column a class."""
    columns = {f"p_{name}": probabilities[:, index] for index, name in enumerate(classes)}
    truth = [classes[index] for index in test.truth]
    identity = test.rows["identity"].to_numpy()
    return pd.DataFrame({"sample_id": test.rows["sample_id"].to_numpy(), "identity": identity, "truth": truth, **columns})
