"""Stage classifiers: one classifier a training set, real, synthetic or both, at an equal budget of images; the epoch is chosen on real val.

Real faces teach their annotators' votes (where a corpus has them), generated ones their rectified labels. Gate `validation` has opened, or
its folder would not be there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from components.corpus import take_balanced
from components.device import torch_device
from components.plots import training_curves
from components.record import Record
from components.tracking import log_metrics
from components.training_examples import labelled_examples, real_examples, rectified_examples
from synfer.classifiers.examples import Examples, concatenate
from synfer.classifiers.fit import fit
from synfer.classifiers.models import create, save
from synfer.config import Classifiers as Section
from synfer.config import Common
from synfer.errors import SynferError
from synfer.files import write_json
from synfer.manifest import read_manifest
from synfer.seeding import derive_seed

History = list[dict[str, float]]
REAL, SYNTHETIC = "real", "synthetic"


class TrainingSetError(SynferError):
    """A training set without images; the message names it."""


def run(
    section: Section, common: Common, *, development: Path, synthesis: Path, rectification: Path, validation: Path, out: Path
) -> None:
    """Write `out/<training set>/` with the classifier and its `history.json`, for every set of the section."""
    parts = training_parts(section, common, development=development, synthesis=synthesis, rectification=rectification)
    frame = read_manifest(development)
    val = frame[(frame["split"] == "val") & frame["expression"].isin(common.expressions)]
    held_out = labelled_examples(development, val, classes=common.expressions, size=common.image_size)
    sets: tuple[str, ...] = section.training_sets
    histories = {name: train_classifier(name, examples_of(name, parts), held_out, section, common, out / name) for name in sets}
    _record(histories, {name: len(examples_of(name, parts)) for name in histories}, len(held_out), out)


def training_parts(
    section: Section, common: Common, *, development: Path, synthesis: Path, rectification: Path
) -> dict[str, Examples]:
    """The real and the synthetic examples; of the real ones as many as there are synthetic, or `section.train_images`."""
    rectified = read_manifest(rectification)
    synthetic = rectified_examples(synthesis, rectified, classes=common.expressions, size=common.image_size)
    rows = real_rows(read_manifest(development), common, section.train_images or len(synthetic))
    return {REAL: real_examples(development, rows, classes=common.expressions, size=common.image_size), SYNTHETIC: synthetic}


def real_rows(frame: pd.DataFrame, common: Common, wanted: int) -> pd.DataFrame:
    """Class-balanced training rows, drawn at random from the seed, in the order of the manifest."""
    train = frame[(frame["split"] == "train") & frame["expression"].isin(common.expressions)]
    order = np.random.default_rng(derive_seed(common.seed, "classifiers", REAL)).permutation(len(train))
    return take_balanced(train.iloc[order], wanted).sort_index()


def examples_of(training_set: str, parts: dict[str, Examples]) -> Examples:
    """The examples of a training set such as "real+synthetic"; raises TrainingSetError if it has none."""
    found = concatenate([parts[name] for name in training_set.split("+")])
    if not found.weights.sum():
        raise TrainingSetError(f"training set {training_set!r} has no image of positive weight")
    return found


def train_classifier(name: str, train: Examples, val: Examples, section: Section, common: Common, folder: Path) -> History:
    """Train and save one classifier; every training set starts from the same weights. Returns the history."""
    seed = derive_seed(common.seed, "classifiers")
    model = create(section.backbone, common.expressions, image_size=common.image_size, seed=seed)
    history = fit(
        model, train, val, epochs=section.epochs, batch_size=section.batch_size, learning_rate=section.learning_rate,
        weight_decay=section.weight_decay, label_smoothing=section.label_smoothing, seed=seed, device=torch_device(common.device),
        on_epoch=_logger(name),
    )  # fmt: skip
    save(model, folder, {"training_set": name, "images": len(train), "weight": float(train.weights.sum()), "epochs": section.epochs})
    write_json(folder / "history.json", history)
    return history


def _logger(name: str) -> Callable[[int, dict[str, float]], None]:
    return lambda epoch, metrics: log_metrics({f"{name}/{key}": value for key, value in metrics.items()}, step=epoch)


def _record(histories: dict[str, History], sizes: dict[str, int], n_val: int, out: Path) -> None:
    record = Record(out)
    rows = []
    for name, history in histories.items():
        best = max(range(len(history)), key=lambda epoch: history[epoch]["val_uar"])
        record.metric(f"classifiers/{name}/train_images", sizes[name], n=sizes[name])
        record.metric(f"classifiers/{name}/val_uar", history[best]["val_uar"], n=n_val)
        rows.append({"training set": name, "images": sizes[name], "epoch kept": f"{best + 1} of {len(history)}", **history[best]})
    text = f"Epochs are chosen by UAR on {n_val} real val faces, by their annotated label (dot)."
    record.figure("training", training_curves(histories), title="Training of the classifiers", caption=text)
    record.table("Classifiers, epoch kept", pd.DataFrame(rows))
    record.save()
