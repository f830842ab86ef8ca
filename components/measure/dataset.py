"""A trained classifier on another dataset: metrics with intervals, refused where the model has met the images or helped to make them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from components import tracking
from components.classifier_scores import TITLES, Bootstrap, bootstrap_settings, write_predictions
from components.device import torch_device
from components.fer_models import read_roles
from components.group_gaps import group_gaps, people_of, record_gaps
from components.intervals import cell, keep
from components.measure.predictions import FOLDER
from components.plots import confusion_matrices
from components.record import Record
from components.training_record import check_unseen
from components.workspace import Workspace
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import CARD, Classifier, ClassifierError, load
from synfer.classifiers.predict import predict
from synfer.config import Common, Evaluation
from synfer.errors import SynferError
from synfer.files import whole_folder
from synfer.images import load_images
from synfer.manifest import read_manifest
from synfer.metrics.bootstrap import Interval, interval
from synfer.metrics.classification import METRICS, confusion, recall_of
from synfer.metrics.roles import AU_JUDGE, JUDGE, Role, check_roles, expand_identities

_GENERATED = "layout_from"  # a column that only generated faces have
_WRITTEN = {FOLDER, "figures", "figures.json", "metrics.json", "tables.json"}


class DatasetEvaluationError(SynferError):
    """A split that does not exist or that the model cannot be measured on; the message says what there is."""


@dataclass(frozen=True)
class Rated:
    """Faces of a split with truth (N,) and probabilities (N, K) over the classes that model and dataset share, and what was left out."""

    rows: pd.DataFrame
    classes: tuple[str, ...]
    truth: np.ndarray
    probabilities: np.ndarray
    truth_column: str
    notes: tuple[str, ...]

    @property
    def people(self) -> list[str] | None:
        """Whom each face shows, so that intervals are over people; None where nobody is known, and they are over faces."""
        return people_of(self.rows)


@contextmanager
def open_model(name: str, workspace: Workspace) -> Iterator[Path]:
    """The folder of a trained classifier: a path, or an MLflow URI such as models:/synfer-classifier@champion."""
    if Path(name).is_dir() or not name.startswith(("models:/", "runs:/")):
        yield Path(name)
        return
    import mlflow
    from mlflow.exceptions import MlflowException

    tracking.connect(workspace)
    with TemporaryDirectory() as temporary:
        try:
            local = Path(mlflow.artifacts.download_artifacts(artifact_uri=name, dst_path=temporary))
        except (MlflowException, OSError) as error:
            raise ClassifierError(f"MLflow has no model {name}: {str(error).splitlines()[0]}") from error
        cards = sorted(local.rglob(CARD))
        if not cards:
            raise ClassifierError(f"{name} is no classifier of this project: it holds no {CARD}")
        yield cards[0].parent


def evaluate(
    folder: Path, dataset: Path, *, split: str, section: Evaluation, common: Common, roles: Path | None, out: Path, title: str
) -> dict[str, Interval]:
    """Rate a split of a dataset folder with the classifier of `folder`; write predictions, metrics and tables to `out`.

    `roles` is the folder of the FER models that helped to make generated faces; a model that is one of them, or has met its people, is
    refused. Raises TrainingRecordError if the model was trained on rows or people of the split, RoleConflict if it has another role.
    Returns the metrics.
    """
    frame = read_manifest(dataset)
    rows = split_rows(frame, split, dataset)
    model = load(folder, device=torch_device(common.device))
    check_unseen(model, folder, rows, where=f"{dataset}, split {split}")
    check_makers(model, frame, dataset, roles)
    rated = rate(model, frame, rows, dataset)
    with whole_folder(out) as temporary:
        record = Record(temporary)
        found = _record(rated, record, section, common, title=title)
        columns = {name: rated.rows[name].to_numpy() for name in ("sample_id", "identity")}
        columns["truth"] = np.array([rated.classes[index] for index in rated.truth])
        write_predictions(temporary / FOLDER / "model.parquet", columns, {"p": rated.probabilities}, rated.classes)
        record.save()
    return found


def check_replaceable(out: Path) -> None:
    """Raise DatasetEvaluationError unless `out` is missing, empty, or an earlier evaluation, which may be replaced."""
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if out.is_file() or found - _WRITTEN:
        what = f"holds {min(found - _WRITTEN)}, which is no earlier evaluation" if found else "is a file"
        raise DatasetEvaluationError(f"{out} {what}; choose another folder")


def split_rows(frame: pd.DataFrame, split: str, dataset: Path) -> pd.DataFrame:
    """The rows of a split; raises DatasetEvaluationError with the splits that there are."""
    rows = frame[frame["split"] == split]
    if rows.empty:
        known = ", ".join(f"{name} ({count})" for name, count in frame["split"].value_counts().items())
        raise DatasetEvaluationError(f"{dataset} has no image in split {split!r}; it has {known}")
    return rows


def check_makers(model: Classifier, frame: pd.DataFrame, dataset: Path, roles: Path | None) -> None:
    """Raise RoleConflict if the faces were generated and the model, as their judge, had another role in it."""
    if _GENERATED not in frame.columns:
        return
    if roles is None or not roles.is_dir():
        raise DatasetEvaluationError(f"{dataset} holds generated faces; which models helped to make them? name their folder with --roles")
    makers = {name: role for name, role in read_roles(roles).items() if name not in (JUDGE, AU_JUDGE)}
    known = expand_identities(model.card.get("trained_on", {}).get("identities", ()))
    check_roles({JUDGE: Role(model.sha256, known), **makers})


def rate(model: Classifier, frame: pd.DataFrame, rows: pd.DataFrame, dataset: Path) -> Rated:
    """Probabilities of the faces whose class the model knows, over the classes that both know.

    The classes of a dataset are those of all its splits. An answer that the dataset has not is taken from the model, and said so.
    """
    column = "true_expression" if "true_expression" in rows.columns else "expression"
    there = set(frame[column]) - {""}
    classes = tuple(name for name in model.classes if name in there)
    known = rows[rows[column].isin(classes)]
    if known.empty or len(classes) < 2:
        shown = ", ".join(sorted(there)) or "no class"
        raise DatasetEvaluationError(f"{dataset} shows {shown}; the model knows {', '.join(model.classes)}")
    images = load_images(dataset, known["sample_id"].tolist(), size=model.module.image_size)
    found = predict(model, images)
    found = found[:, [model.classes.index(name) for name in classes]].astype(np.float64)
    total = found.sum(axis=1, keepdims=True)
    probabilities = np.divide(found, total, out=np.full_like(found, 1 / len(classes)), where=total > 0)  # sure of what it may not answer
    notes = tuple(_notes(model, rows, column, classes))
    return Rated(known, classes, class_indices(known[column].tolist(), classes), probabilities, column, notes)


def _notes(model: Classifier, rows: pd.DataFrame, column: str, classes: tuple[str, ...]) -> Iterator[str]:
    """What was left out, in words."""
    for name, count in rows.loc[~rows[column].isin(classes), column].value_counts().items():
        yield f"{count} faces of {name} are left out: the model does not know it" if name else f"{count} faces without a label are left out"
    if taken := [name for name in model.classes if name not in classes]:
        yield f"the model may not answer {', '.join(taken)}, which the dataset never shows; that is easier than with all its classes"


def _record(rated: Rated, record: Record, section: Evaluation, common: Common, *, title: str) -> dict[str, Interval]:
    settings = bootstrap_settings(section, common)
    found = {
        name: interval(metric, rated.truth, rated.probabilities, groups=rated.people, **settings) for name, metric in METRICS.items()
    }
    for name, value in found.items():
        keep(record, name, value)
    truth = "exact expression" if rated.truth_column == "true_expression" else "annotated label"
    values = {TITLES[name]: cell(value) for name, value in found.items()}
    record.table(f"{title}: {len(rated.truth)} faces, {truth}", pd.DataFrame([values]))
    _recalls(rated, record, settings)
    gaps = group_gaps(rated.truth, rated.probabilities, rated.rows, **settings)
    record_gaps(gaps, record, prefix="gap", title="Recall of groups of people")
    if rated.notes:
        record.table("Left out", pd.DataFrame({"what": rated.notes}))
    matrix = confusion(rated.truth, rated.probabilities.argmax(axis=1), len(rated.classes))
    figure = confusion_matrices({title: matrix}, rated.classes)
    record.figure("confusion", figure, title="What the classifier confuses", caption="Per cent of each true class.")
    return found


def _recalls(rated: Rated, record: Record, settings: Bootstrap) -> None:
    rows = []
    for index, count in enumerate(np.bincount(rated.truth, minlength=len(rated.classes))):
        if count:
            found = interval(recall_of(index), rated.truth, rated.probabilities, groups=rated.people, **settings)
            record.metric(f"recall/{rated.classes[index]}", found.value, low=found.low, high=found.high, n=int(count))
            rows.append({"class": rated.classes[index], "n": int(count), "recall": cell(found)})
    record.table("Recall of every class", pd.DataFrame(rows))
