"""Stage feranno: train the pseudo-label head on the backbone's features of real faces; choose its epoch and calibrate it on val.

It learns from `expression`, the annotators' label; `true_expression` of procedural faces is not read. Where the manifest knows AUs of
training faces, a second head learns to read them (`feranno.au_weight`); which of them it can be trusted with is measured on val.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.annotation_figures import reliability_diagram
from components.au_check import SEEN, au_reading
from components.device import torch_device
from components.executors.shards import actors_of, device_of
from components.feature_store import FeatureMaker, store_features
from components.plots import confusion_matrices, training_curves
from components.record import Record
from components.tracking import log_metrics
from synfer.annotation.calibration import reliability, scale
from synfer.annotation.feranno import Feranno, save_feranno
from synfer.annotation.feranno_fit import fit_feranno, predict_aus, predict_feranno
from synfer.annotation.label_noise import LabelNoise
from synfer.annotation.pooling import fit_pool
from synfer.classifiers.examples import class_indices
from synfer.config import Common
from synfer.config import Feranno as Section
from synfer.files import whole_file
from synfer.manifest import read_manifest, stack
from synfer.metrics.classification import confusion
from synfer.seeding import derive_seed

PREDICTIONS = "val_logits.parquet"
"""Logits of the val images by sample_id, and the AUs seen where the head reads any: rectification calibrates the pool and its tolerance on
them without a second pass through the U-Net."""

_FEATURES = "features"  # of an unfinished run alone


def run(section: Section, common: Common, *, development: Path, generator: Path, out: Path) -> None:
    """Write `model.safetensors`, `card.json` and the val logits to `out`."""
    frame = read_manifest(development)
    frame = frame[frame["expression"].isin(common.expressions)]
    train, val = training_rows(section, common, frame), frame[frame["split"] == "val"]
    trained = _train(section, common, development, generator / "backbone", train, val, out / _FEATURES)
    labels, reading = _labels(val, common), au_reading(stack(val, "aus"), trained.seen)
    _write_predictions(val, trained.logits, trained.seen if trained.model.shape.aus else None, out)
    temperature, noise = _calibrated(trained.logits, labels)
    _save(trained.model, temperature, reading, section, trained_on=len(train), out=out)
    _record(trained, labels, reading, common.expressions, temperature, noise, trained_on=len(train), out=out)
    shutil.rmtree(out / _FEATURES)


@dataclass(frozen=True)
class _Trained:
    """The head, its metrics by epoch, and what it sees in the val images: logits (N, K), AUs (N, AU_COUNT)."""

    model: Feranno
    history: list[dict[str, float]]
    logits: np.ndarray
    seen: np.ndarray


def _train(
    section: Section, common: Common, development: Path, backbone: Path, train: pd.DataFrame, val: pd.DataFrame, store: Path
) -> _Trained:
    """Train the head on features that stay under `store`; none of them is open any more when this returns."""
    actors = actors_of(section, common)
    maker = FeatureMaker(backbone, section.timestep, common.seed, section.batch_size, device_of(actors, common))
    train_set, val_set = (
        replace(
            store_features(maker, development, list(rows["sample_id"]), _labels(rows, common), store=store / name, actors=actors),
            aus=stack(rows, "aus"),
        )
        for name, rows in (("train", train), ("val", val))
    )
    model, history = fit_feranno(
        train_set, val_set, classes=common.expressions, width=section.width, epochs=section.epochs, batch_size=section.batch_size,
        learning_rate=section.learning_rate, au_weight=section.au_weight, seed=derive_seed(common.seed, "feranno"),
        device=torch_device(common.device), on_epoch=lambda epoch, metrics: log_metrics(metrics, step=epoch),
    )  # fmt: skip
    return _Trained(model, history, predict_feranno(model, val_set), predict_aus(model, val_set))


def _labels(rows: pd.DataFrame, common: Common) -> np.ndarray:
    return class_indices(rows["expression"].tolist(), common.expressions)


def training_rows(section: Section, common: Common, frame: pd.DataFrame) -> pd.DataFrame:
    """The training rows of a manifest that the head learns from: `train_images` drawn at random, all for 0, in their order there."""
    rows, wanted = frame[frame["split"] == "train"], section.train_images
    if not wanted or wanted >= len(rows):
        return rows
    chosen = np.random.default_rng(derive_seed(common.seed, "feranno", "subset")).choice(len(rows), wanted, replace=False)
    return rows.iloc[np.sort(chosen)]


def _write_predictions(val: pd.DataFrame, logits: np.ndarray, seen: np.ndarray | None, out: Path) -> None:
    columns = {"logits": logits} | ({} if seen is None else {SEEN: seen})
    lists = {name: pa.array(list(rows), pa.list_(pa.float32())) for name, rows in columns.items()}
    table = pa.table({"sample_id": pa.array(val["sample_id"].tolist(), pa.string()), **lists})
    with whole_file(out / PREDICTIONS) as temporary:
        pq.write_table(table, temporary)


def _save(model: Feranno, temperature: float, reading: pd.DataFrame, section: Section, *, trained_on: int, out: Path) -> None:
    card = {
        "timestep": section.timestep,
        "trained_on": trained_on,
        "temperature": temperature,
        "readable_aus": reading.loc[reading["readable"], "AU"].tolist(),
    }
    save_feranno(model, out, card)


def _calibrated(logits: np.ndarray, labels: np.ndarray) -> tuple[float, LabelNoise]:
    """The head's temperature, and the noise of the val labels that it was fitted through."""
    pool = fit_pool({"FERAnno": logits}, labels)
    return pool.temperatures["FERAnno"], pool.noise


def _record(
    trained: _Trained, labels: np.ndarray, reading: pd.DataFrame, classes: tuple[str, ...], temperature: float, noise: LabelNoise,
    *, trained_on: int, out: Path,
) -> None:  # fmt: skip
    before, after = (reliability(scale(trained.logits, t), labels, confusion=noise.label_given_truth) for t in (1.0, temperature))
    best, n = max(trained.history, key=lambda epoch: epoch["val_uar"]), len(labels)
    counts = confusion(labels, trained.logits.argmax(axis=1), len(classes))
    record = Record(out)
    record.metric("feranno/val_uar", best["val_uar"], n=n)
    record.metric("feranno/val_accuracy", best["val_accuracy"], n=n)
    record.metric("feranno/ece_before", before.ece, n=n)
    record.metric("feranno/ece", after.ece, n=n)
    record.metric("feranno/temperature", temperature, n=n)
    record.metric("feranno/train_images", trained_on)
    if len(reading):
        record.metric("feranno/au_icc", reading["ICC"].mean(), n=n)
        record.metric("feranno/readable_aus", int(reading["readable"].sum()))
        record.table(f"Action units that FERAnno reads, on {n} val faces", reading)
    record.figure(
        "training", training_curves({"FERAnno": trained.history}), title="Training of FERAnno",
        caption=f"The head sees the features of {trained_on} real faces; the epoch with the best UAR on val is kept.",
    )  # fmt: skip
    record.figure(
        "reliability", reliability_diagram({"FERAnno": (before, after)}), title="Calibration of FERAnno",
        caption=f"On {n} val faces; one temperature ({temperature:.2f}) is fitted there. Right means the true class: of the annotated "
        f"labels, {noise.wrong:.0%} seem to be wrong.",
    )  # fmt: skip
    record.figure(
        "confusion", confusion_matrices({"val": counts}, classes, rows="annotated label", columns="FERAnno sees"),
        title="What FERAnno confuses",
        caption="Per cent of each annotated class on val; the annotated label itself is a majority vote and not always right.",
    )  # fmt: skip
    record.save()
