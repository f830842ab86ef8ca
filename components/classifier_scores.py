"""How the trained classifiers do on the real test split: predictions kept as files, metrics with intervals, paired differences, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd

from components.fer_models import class_probabilities
from components.group_gaps import group_gaps, people_of, record_gaps
from components.intervals import cell, keep
from components.plots import confusion_matrices, interval_bars, reliability_diagrams
from components.record import Record
from components.training_record import check_unseen
from synfer.annotation.calibration import chance_ece
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import load
from synfer.config import Common, Evaluation
from synfer.faces.sheet import labelled_sheet
from synfer.files import whole_file
from synfer.images import load_images
from synfer.metrics.bootstrap import Interval, difference, interval
from synfer.metrics.classification import METRICS, UAR, confusion, recall_of, reliability

BASELINE = "real"
TITLES = {"accuracy": "accuracy (WAR)", "uar": "UAR", "macro_f1": "macro-F1", "nll": "NLL", "ece": "ECE"}
_SHARES = ("accuracy", "uar", "macro_f1")
_MISTAKES, _SHEET_COLUMNS, _LETTERS = 24, 8, 5
_CELL = 128  # pixels a picture needs to fit its title
Predictions = Mapping[str, np.ndarray]


class Bootstrap(TypedDict):
    """Settings of every bootstrap of the stage."""

    resamples: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class RealFaces:
    """The real test split: rows, pixels uint8 (N, H, W, 3), class indices (N,) of the truth, and the column that it was read from."""

    rows: pd.DataFrame
    images: np.ndarray
    truth: np.ndarray
    truth_column: str

    @property
    def people(self) -> list[str] | None:
        """Whom each face shows, so that intervals are over people; None where nobody is known, and they are over faces."""
        return people_of(self.rows)


def read_test(test: Path, rows: pd.DataFrame, common: Common) -> RealFaces:
    """Test images with the exact truth where the corpus knows it (procedural faces), else with the annotated label."""
    column = "true_expression" if "true_expression" in rows.columns else "expression"
    rows = rows[rows[column].isin(common.expressions)]
    images = load_images(test, rows["sample_id"].tolist(), size=common.image_size)
    return RealFaces(rows, images, class_indices(rows[column].tolist(), common.expressions), column)


def classifier_folders(classifiers: Path) -> list[Path]:
    """The folders of trained classifiers, those of one part first."""
    return sorted((path.parent for path in classifiers.glob("*/card.json")), key=lambda folder: (len(folder.name), folder.name))


def score_classifiers(classifiers: Path, faces: RealFaces, section: Evaluation, common: Common, record: Record) -> None:
    """Predict the test split with every classifier of the folder; write predictions, metrics, tables and figures.

    Raises TrainingRecordError before any work if one was trained on rows or people of the split.
    """
    folders = classifier_folders(classifiers)
    for folder in folders:
        check_unseen(load(folder), folder, faces.rows, where="the test split")
    predictions = {folder.name: class_probabilities(load(folder), faces.images, common) for folder in folders}
    settings = bootstrap_settings(section, common)
    for name, probabilities in predictions.items():
        truth = [common.expressions[index] for index in faces.truth]
        columns = {"sample_id": faces.rows["sample_id"].to_numpy(), "identity": faces.rows["identity"].to_numpy(), "truth": truth}
        write_predictions(record.out / "predictions" / f"{name}.parquet", columns, {"p": probabilities}, common.expressions)
    _metrics(predictions, faces, settings, record)
    _recalls(predictions, faces, common.expressions, settings, record)
    _differences(predictions, faces, settings, record)
    _diagnoses(predictions, faces, common.expressions, record)
    _mistakes(predictions, faces, common.expressions, record)
    for name, probabilities in predictions.items():
        gaps = group_gaps(faces.truth, probabilities, faces.rows, **settings)
        record_gaps(gaps, record, prefix=f"classifiers/{name}/gap", title=f"Recall of groups of people on the real test split: {name}")


def bootstrap_settings(section: Evaluation, common: Common) -> Bootstrap:
    """Resamples and confidence of the section, the seed of the run."""
    return {"resamples": section.bootstrap, "confidence": section.confidence, "seed": common.seed}


def write_predictions(path: Path, columns: Mapping[str, object], tables: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    """Write the columns and, by prefix, one column a class of each table (N, K), such as `p_fear`."""
    probabilities = {f"{prefix}_{name}": table[:, index] for prefix, table in tables.items() for index, name in enumerate(classes)}
    with whole_file(path) as temporary:
        pd.DataFrame({**columns, **probabilities}).to_parquet(temporary, index=False)


def _metrics(predictions: Predictions, faces: RealFaces, settings: Bootstrap, record: Record) -> None:
    found: dict[str, dict[str, Interval]] = {}
    for name, table in predictions.items():
        found[name] = {key: interval(metric, faces.truth, table, groups=faces.people, **settings) for key, metric in METRICS.items()}
        for key, value in found[name].items():
            keep(record, f"classifiers/{name}/{key}", value)
    by_chance = {name: chance_ece(table.astype(np.float64), seed=settings["seed"]) for name, table in predictions.items()}
    for name, chance in by_chance.items():
        record.metric(f"classifiers/{name}/ece_by_chance", chance, n=len(faces.truth))
    rows = [
        {"training set": name, **{TITLES[key]: cell(value) for key, value in values.items()}, "ECE if calibrated": f"{by_chance[name]:.3f}"}
        for name, values in found.items()
    ]
    what = f"{settings['confidence']:.0%} intervals over {_over(faces)}"
    title = f"Classifiers on {len(faces.truth)} real test faces, one training each ({what})"
    record.table(title, pd.DataFrame(rows))
    shares = {name: {TITLES[key]: values[key] for key in _SHARES} for name, values in found.items()}
    bars = interval_bars(shares, ylabel="on the real test split")
    truth = "the exact expression of each rendered face" if faces.truth_column == "true_expression" else "the annotated label"
    text = f"{len(faces.truth)} faces of people whom no training stage has seen; truth is {truth}. Whiskers: bootstrap over {_over(faces)}."
    record.figure("classifiers", bars, title="Classifiers on the real test split", caption=text)


def _over(faces: RealFaces) -> str:
    """What the bootstrap draws."""
    return "faces" if faces.people is None else f"{len(set(faces.people))} people"


def _recalls(predictions: Predictions, faces: RealFaces, classes: Sequence[str], settings: Bootstrap, record: Record) -> None:
    counts = np.bincount(faces.truth, minlength=len(classes))
    present = [index for index in range(len(classes)) if counts[index]]
    found: dict[str, dict[str, Interval]] = {}
    for name, table in predictions.items():
        recalls = {index: interval(recall_of(index), faces.truth, table, groups=faces.people, **settings) for index in present}
        found[name] = {classes[index]: Interval(r.value, r.low, r.high, int(counts[index])) for index, r in recalls.items()}
        for label, value in found[name].items():
            keep(record, f"classifiers/{name}/recall/{label}", value)
    rows = [
        {"class": classes[index], "n": int(counts[index]), **{name: cell(values[classes[index]]) for name, values in found.items()}}
        for index in present
    ]
    record.table("Recall of every class on the real test split", pd.DataFrame(rows))
    text = "Share of each true class that the classifier finds, on real test faces."
    record.figure("recall", interval_bars(found, ylabel="recall"), title="Recall by class", caption=text)


def _differences(predictions: Predictions, faces: RealFaces, settings: Bootstrap, record: Record) -> None:
    """Every set against the real one, on the same faces."""
    if BASELINE not in predictions:
        return  # nothing to compare with was trained
    rows = []
    for name, table in predictions.items():
        if name == BASELINE:
            continue
        row = {"comparison": f"{name} minus {BASELINE}"}
        for key in _SHARES:
            found = difference(METRICS[key], faces.truth, table, predictions[BASELINE], groups=faces.people, **settings)
            keep(record, f"classifiers/{name}/{key}_minus_{BASELINE}", found)
            row[TITLES[key]] = cell(found, signed=True)
            if METRICS[key] is UAR:
                row["verdict on UAR"] = "differs" if found.excludes_zero else "within the noise"
        rows.append(row)
    if rows:
        record.table("Paired differences on the same test faces", pd.DataFrame(rows))


def _diagnoses(predictions: Predictions, faces: RealFaces, classes: Sequence[str], record: Record) -> None:
    matrices = {name: confusion(faces.truth, table.argmax(axis=1), len(classes)) for name, table in predictions.items()}
    figure = confusion_matrices(matrices, classes)
    record.figure("confusion", figure, title="What the classifiers confuse", caption="Per cent of each true class of the real test split.")
    diagrams = reliability_diagrams({name: reliability(faces.truth, table) for name, table in predictions.items()})
    text = "Share right against confidence on real test faces; dots grow with their number. Below the diagonal: too sure of itself."
    record.figure("reliability", diagrams, title="Calibration of the classifiers", caption=text)


def _mistakes(predictions: Predictions, faces: RealFaces, classes: Sequence[str], record: Record) -> None:
    """The mistakes that the classifier with most training data is surest of."""
    name, table = list(predictions.items())[-1]
    guess = table.argmax(axis=1)
    wrong = np.flatnonzero(guess != faces.truth)
    worst = wrong[np.argsort(-table[wrong].max(axis=1), kind="stable")][:_MISTAKES]
    if not len(worst):
        return  # nothing was misclassified
    titles = [f"{classes[faces.truth[row]][:_LETTERS]} > {classes[guess[row]][:_LETTERS]}" for row in worst]
    scale = max(2, _CELL // faces.images.shape[1])
    sheet = labelled_sheet(faces.images[worst], columns=_SHEET_COLUMNS, titles=titles, scale=scale)
    text = f"Of {len(wrong)} mistakes of the classifier trained on {name}, those it is surest of; titles are truth > prediction."
    record.figure("misclassified", sheet, title="Misclassified test faces", caption=text)
