"""Stage classifiers: one classifier a training set, real, synthetic or both, at an equal budget of images.

Real faces teach their annotators' votes (where a corpus has them), generated ones their rectified labels; real val faces choose the epoch
and the temperature. Gate `validation` has opened, or its folder would not be there. A killed stage goes on: finished training sets are
kept, and the one under way resumes at its last epoch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.corpus import take_balanced
from components.device import torch_device
from components.plots import training_curves
from components.record import Record
from components.tracking import log_metrics
from components.training_examples import labelled_examples, real_examples, rectified_examples
from components.training_record import write_training_record
from synfer.annotation.calibration import fit_temperature
from synfer.classifiers.examples import Examples, concatenate
from synfer.classifiers.fit import fit
from synfer.classifiers.loop import History, Schedule
from synfer.classifiers.models import Network, create, save
from synfer.classifiers.predict import predict
from synfer.classifiers.sampling import EpochRows, epoch_rows
from synfer.classifiers.self_supervised import pretrain
from synfer.config import Classifiers as Section
from synfer.config import Common
from synfer.files import write_json
from synfer.manifest import read_manifest
from synfer.seeding import derive_seed
from synfer.training_sets import REAL, SYNTHETIC, Phase, TrainingSetError, parse_training_set

HISTORY, CHECKPOINT = "history.json", "checkpoint"
_LEAST = 1e-12  # a probability whose logarithm is still a number


def run(
    section: Section, common: Common, *, development: Path, synthesis: Path, rectification: Path, validation: Path, out: Path
) -> None:
    """Write `out/<training set>/` with the classifier, its `history.json` and `trained_on.parquet`, for every set of the section."""
    rows = training_rows(section, common, development=development, rectification=rectification)
    parts = examples_by_part(rows, common, development=development, synthesis=synthesis)
    frame = read_manifest(development)
    val = frame[(frame["split"] == "val") & frame["expression"].isin(common.expressions)]
    held_out = labelled_examples(development, val, classes=common.expressions, size=common.image_size)
    histories = {}
    for name in section.training_sets:
        uses = {part: rows[part] for part in _parts_of(name)} | {"val": val}
        histories[name] = train_classifier(name, parts, held_out, section, common, out / name, uses=uses)
    _record(histories, {name: len(examples_of(name, parts)) for name in histories}, len(held_out), out)


def training_rows(section: Section, common: Common, *, development: Path, rectification: Path) -> dict[str, pd.DataFrame]:
    """Manifest rows of the parts: synthetic ones that were not rejected, and as many real ones, or `section.train_images`."""
    rectified = read_manifest(rectification)
    kept = rectified[rectified["action"] != "reject"]
    return {REAL: real_rows(read_manifest(development), common, section.train_images or len(kept)), SYNTHETIC: kept}


def examples_by_part(rows: Mapping[str, pd.DataFrame], common: Common, *, development: Path, synthesis: Path) -> dict[str, Examples]:
    """The examples of the rows of the parts."""
    shape: dict[str, Any] = {"classes": common.expressions, "size": common.image_size}
    real, synthetic = real_examples(development, rows[REAL], **shape), rectified_examples(synthesis, rows[SYNTHETIC], **shape)
    return {REAL: real, SYNTHETIC: synthetic}


def training_parts(
    section: Section, common: Common, *, development: Path, synthesis: Path, rectification: Path
) -> dict[str, Examples]:
    """The real and the synthetic examples; of the real ones as many as there are synthetic, or `section.train_images`."""
    rows = training_rows(section, common, development=development, rectification=rectification)
    return examples_by_part(rows, common, development=development, synthesis=synthesis)


def real_rows(frame: pd.DataFrame, common: Common, wanted: int) -> pd.DataFrame:
    """Class-balanced training rows, drawn at random from the seed, in the order of the manifest."""
    train = frame[(frame["split"] == "train") & frame["expression"].isin(common.expressions)]
    order = np.random.default_rng(derive_seed(common.seed, "classifiers", REAL)).permutation(len(train))
    return take_balanced(train.iloc[order], wanted).sort_index()


def examples_of(training_set: str, parts: Mapping[str, Examples]) -> Examples:
    """The examples of all parts of a training set such as "real+synthetic"; raises TrainingSetError if it has none."""
    return _together(_parts_of(training_set, parts), training_set, parts)


def train_classifier(
    name: str, parts: Mapping[str, Examples], val: Examples, section: Section, common: Common, folder: Path, *,
    uses: Mapping[str, pd.DataFrame], seed: int | None = None,
) -> History:  # fmt: skip
    """Train and save the classifier of a training set, phase after phase; returns the history.

    Every training set starts from the same weights, those of `seed` (by default of the run's). `uses` are the manifest rows by use, for the
    record. A folder that holds a finished classifier is left as it is; `folder/checkpoint` holds one under way.
    """
    if (folder / HISTORY).is_file():
        return list(json.loads((folder / HISTORY).read_text(encoding="utf-8")))
    phases, images = parse_training_set(name, parts=tuple(parts)), examples_of(name, parts)
    seed = derive_seed(common.seed, "classifiers") if seed is None else seed
    log = _logger(name)
    model = _start(images, section, common, seed, folder / CHECKPOINT / "pretrain", log)
    history: History = []
    for number, phase in enumerate(phases):
        train, draw = phase_examples(phase, name, parts, section, phases=len(phases))
        found = fit(
            model, train, val, epochs=section.epochs, draw=draw, seed=seed if number == 0 else derive_seed(seed, "phase", number),
            device=torch_device(common.device), checkpoint=folder / CHECKPOINT / str(number), on_epoch=_after(log, len(history)),
            **recipe(section),
        )  # fmt: skip
        history += [{**epoch, "phase": float(number + 1)} for epoch in found] if len(phases) > 1 else found
    temperature = calibrate(model, val, common)
    trained_on = write_training_record(folder, uses, images=len(images))
    about = {"training_set": name, "images": len(images), "weight": float(images.weights.sum()), "epochs": len(history)}
    about["temperature"] = temperature
    save(model, folder, {**about, "recipe": section.model_dump(mode="json", exclude={"training_sets"}), "trained_on": trained_on})
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
    write_json(folder / HISTORY, history)
    return history


def calibrate(model: Network, val: Examples, common: Common) -> float:
    """Scale the model's logits so that its confidence is the share of val faces on which it is right; returns the temperature.

    Votes and smoothed labels teach a network to be less sure than it could be. The labels of val are the annotators' majority, so what they
    get wrong stays in the confidence.
    """
    scores = np.log(np.clip(predict(model, val.images, device=torch_device(common.device)), _LEAST, 1.0))
    temperature = fit_temperature(scores, val.targets.argmax(axis=1))
    model.divide_logits(temperature)
    return temperature


def recipe(section: Section) -> dict[str, Any]:
    """The options of `fit` that a section holds, besides the length of the training."""
    names = ("batch_size", "learning_rate", "weight_decay", "label_smoothing", "mixup", "randaugment", "patience", "precision")
    return {name: getattr(section, name) for name in names}


def phase_examples(
    phase: Phase, training_set: str, parts: Mapping[str, Examples], section: Section, *, phases: int = 1
) -> tuple[Examples, EpochRows | None]:
    """The examples of one phase and the rows that an epoch draws of them; None where every image comes once.

    With `section.steps` all phases together have that many optimiser steps, rounded up to whole epochs of whole batches.
    """
    train = _together(phase.parts, training_set, parts)
    if phase.ratio is None and not section.class_balanced and not section.steps:
        return train, None
    sizes = [len(train)] if phase.ratio is None else [len(parts[name]) for name in phase.parts]
    rows = -(-section.steps // (phases * section.epochs)) * section.batch_size
    labels = train.targets.argmax(axis=1) if section.class_balanced else None
    return train, epoch_rows(sizes, phase.ratio or (1.0,), rows=rows, labels=labels, weights=train.weights)


def _start(images: Examples, section: Section, common: Common, seed: int, checkpoint: Path, log: Callable[..., None]) -> Network:
    """A network to train: fresh, or with a backbone that has learnt from the images alone."""
    model = create(
        section.backbone, common.expressions, image_size=common.image_size, seed=seed, dropout=section.dropout, drop_path=section.drop_path
    )
    if section.pretrain == "none":
        return model
    schedule = Schedule(section.pretrain_epochs, section.pretrain_batch_size, section.learning_rate, precision=section.precision)
    encoder = pretrain(
        images.images, method=section.pretrain, backbone=section.backbone, schedule=schedule, seed=seed,
        device=torch_device(common.device), checkpoint=checkpoint,
        on_epoch=lambda epoch, metrics: log(epoch, {f"pretrain_{key}": value for key, value in metrics.items()}),
    )  # fmt: skip
    model.backbone.load_state_dict(encoder.backbone.state_dict())
    model.norm.load_state_dict(encoder.norm.state_dict())
    return model


def _parts_of(training_set: str, parts: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    known = {} if parts is None else {"parts": tuple(parts)}
    return tuple(dict.fromkeys(name for phase in parse_training_set(training_set, **known) for name in phase.parts))


def _together(names: tuple[str, ...], training_set: str, parts: Mapping[str, Examples]) -> Examples:
    found = concatenate([parts[name] for name in names])
    if not found.weights.sum():
        raise TrainingSetError(f"training set {training_set!r} has no image of positive weight in {'+'.join(names)}")
    return found


def _logger(name: str) -> Callable[[int, dict[str, float]], None]:
    return lambda epoch, metrics: log_metrics({f"{name}/{key}": value for key, value in metrics.items()}, step=epoch)


def _after(log: Callable[[int, dict[str, float]], None], epochs: int) -> Callable[[int, dict[str, float]], None]:
    """The logger for a phase before which there were `epochs` others."""
    return lambda epoch, metrics: log(epochs + epoch, metrics)


def _record(histories: dict[str, History], sizes: dict[str, int], n_val: int, out: Path) -> None:
    record = Record(out)
    rows = []
    for name, history in histories.items():
        last = history[-1].get("phase")
        best = max((epoch for epoch in range(len(history)) if history[epoch].get("phase") == last), key=lambda e: history[e]["val_uar"])
        record.metric(f"classifiers/{name}/train_images", sizes[name], n=sizes[name])
        record.metric(f"classifiers/{name}/val_uar", history[best]["val_uar"], n=n_val)
        values = {key: value for key, value in history[best].items() if key != "phase"}
        rows.append({"training set": name, "images": sizes[name], "epoch kept": f"{best + 1} of {len(history)}", **values})
    text = f"Epochs are chosen by UAR on {n_val} real val faces, by their annotated label (dot)."
    record.figure("training", training_curves(histories), title="Training of the classifiers", caption=text)
    record.table("Classifiers, epoch kept", pd.DataFrame(rows))
    record.save()
