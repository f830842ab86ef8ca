"""Stored per-image predictions: a Parquet file, one of an evaluation's folder, or one that a run logged to MLflow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components import tracking
from components.group_gaps import people_of
from components.workspace import Workspace
from synfer.classifiers.examples import class_indices
from synfer.errors import SynferError
from synfer.vocabulary import unknown

FOLDER = "predictions"
_PREFIX = "p_"
_RUN = re.compile(r"[0-9a-f]{32}")
_PLACES = "name a Parquet file, EVALUATION_FOLDER:TRAINING_SET, MLFLOW_RUN:TRAINING_SET, or a training set of artifacts/evaluation"


class PredictionsError(SynferError):
    """Predictions that cannot be found or read, or do not fit others; the message says where they were looked for."""


@dataclass(frozen=True)
class Predictions:
    """Probabilities float (N, K) of classes for samples, the truth as class indices int (N,), and whom each shows where that is known."""

    title: str
    sample_ids: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    probabilities: np.ndarray
    people: tuple[str, ...] | None = None


def find_predictions(name: str, workspace: Workspace) -> Predictions:
    """The predictions that a person means, see `_PLACES`; raises PredictionsError with the known ones."""
    if Path(name).is_file():
        return read_predictions(Path(name), title=name)
    place, _, training_set = name.partition(":")
    if Path(place).is_dir():
        return _of_folder(Path(place), training_set, title=name)
    if _RUN.fullmatch(place):
        return _of_run(place, training_set, workspace, title=name)
    if (workspace.stage("evaluation") / FOLDER / f"{name}.parquet").is_file():
        return _of_folder(workspace.stage("evaluation"), name, title=name)
    raise PredictionsError(f"there are no predictions {name!r}; {_PLACES}")


def read_predictions(path: Path, *, title: str) -> Predictions:
    """The predictions of a file with the columns sample_id, truth, `p_<class>` and, where it is known, identity.

    Raises PredictionsError naming what is wrong.
    """
    try:
        frame = pq.read_table(path).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise PredictionsError(f"{path} is not a readable Parquet file: {error}") from error
    classes = tuple(str(column)[len(_PREFIX) :] for column in frame.columns if str(column).startswith(_PREFIX))
    missing = [column for column in ("sample_id", "truth") if column not in frame.columns]
    if missing or not classes:
        has = ", ".join(map(str, frame.columns))
        lacks = missing[0] if missing else "p_<class>"
        raise PredictionsError(f"{path} lacks {lacks}; predictions have sample_id, truth, p_<class>; it has {has}")
    repeated = frame.loc[frame["sample_id"].duplicated(), "sample_id"]
    if len(repeated):
        raise PredictionsError(f"{path} rates sample {repeated.iloc[0]} more than once")
    probabilities = frame[[_PREFIX + label for label in classes]].to_numpy(np.float64)
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise PredictionsError(f"{path}: the probabilities of sample {frame['sample_id'].iloc[_worst(probabilities)]} do not sum to 1")
    truth = class_indices(frame["truth"].tolist(), classes)
    people = people_of(frame)
    return Predictions(
        title, tuple(frame["sample_id"].astype(str)), classes, truth, probabilities, None if people is None else tuple(people)
    )


def paired(ours: Predictions, theirs: Predictions) -> tuple[Predictions, Predictions]:
    """Both over the same samples in the same order; raises PredictionsError unless they rated the same images with the same truth."""
    _check_same(set(ours.classes), set(theirs.classes), "class", ours, theirs)
    _check_same(set(ours.sample_ids), set(theirs.sample_ids), "sample", ours, theirs)
    position = {sample_id: row for row, sample_id in enumerate(theirs.sample_ids)}
    rows = np.array([position[sample_id] for sample_id in ours.sample_ids])
    columns = np.array([theirs.classes.index(name) for name in ours.classes])
    truth = columns.argsort()[theirs.truth[rows]]
    other = np.flatnonzero(truth != ours.truth)
    if len(other):
        row = other[0]
        labels = f"{ours.classes[ours.truth[row]]} in {ours.title}, {ours.classes[truth[row]]} in {theirs.title}"
        raise PredictionsError(f"the truth differs for {len(other)} samples: {ours.sample_ids[row]} is {labels}")
    people = None if theirs.people is None else tuple(theirs.people[row] for row in rows)
    return ours, Predictions(theirs.title, ours.sample_ids, ours.classes, truth, theirs.probabilities[np.ix_(rows, columns)], people)


def _check_same(ours: set[str], theirs: set[str], what: str, one: Predictions, other: Predictions) -> None:
    if ours == theirs:
        return
    alone, title = (ours - theirs, other.title) if ours - theirs else (theirs - ours, one.title)
    counts = f"{one.title} has {len(ours)}, {other.title} {len(theirs)}"
    missing = f"{what} {min(alone)} (and {len(alone) - 1} more) is not in {title}"
    raise PredictionsError(f"only the same images can be compared: {missing}; {counts}")


def _worst(probabilities: np.ndarray) -> int:
    return int(np.abs(probabilities.sum(axis=1) - 1).argmax())


def _of_folder(folder: Path, training_set: str, *, title: str) -> Predictions:
    """One file of `folder/predictions`; without a training set the only one there is."""
    there = {path.stem: path for path in sorted((folder / FOLDER).glob("*.parquet")) if path.stem != "generated"}
    if not there:
        raise PredictionsError(f"{folder} holds no {FOLDER}/*.parquet; stage evaluation writes them")
    if not training_set and len(there) > 1:
        known = ", ".join(f"{title}:{name}" for name in there)
        raise PredictionsError(f"{title} holds several classifiers' predictions; name one: {known}")
    name = training_set or next(iter(there))
    if name not in there:
        raise PredictionsError(f"{folder}: {unknown('training set', name, there)}")
    return read_predictions(there[name], title=title)


def _of_run(run_id: str, training_set: str, workspace: Workspace, *, title: str) -> Predictions:
    """Predictions that a run, or the evaluation among its children, has logged."""
    import mlflow
    from mlflow.exceptions import MlflowException

    tracking.connect(workspace)
    children = mlflow.MlflowClient().search_runs([_experiment()], f"tags.mlflow.parentRunId = '{run_id}' and tags.stage = 'evaluation'")
    with TemporaryDirectory() as folder:
        for number in (run_id, *(child.info.run_id for child in children)):
            try:
                mlflow.artifacts.download_artifacts(run_id=number, artifact_path=FOLDER, dst_path=folder)
            except (MlflowException, OSError):
                continue
            return _of_folder(Path(folder), training_set, title=title)
    raise PredictionsError(f"MLflow run {run_id} has logged no predictions; {_PLACES}")


def _experiment() -> str:
    import mlflow

    experiment = mlflow.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None, "connect has made it"
    return str(experiment.experiment_id)
