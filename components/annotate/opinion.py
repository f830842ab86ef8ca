"""The user's own model as one more member: out-of-sample probabilities in a file, as `cleanlab` takes them.

Where its probabilities for the run's val faces are at hand too, it is calibrated and weighted like every member, and the thresholds know
it. Where they are not, nobody can say how far it is to be trusted: it is taken as it is, in the logarithmic pool with half of the members'
mean weight, so that it can tip a balance but outvote nobody; noise and thresholds stay those of the calibrated members.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from synfer.annotation.calibration import as_scores, log_probabilities
from synfer.annotation.intent import posterior
from synfer.annotation.reasons import reasons
from synfer.annotation.rectifier import Rectified
from synfer.annotation.rectify import decide
from synfer.datasets.names import LEFT_OUT, UNLABELLED, LabelNames
from synfer.errors import SynferError

MEMBER = "own_model"
CLASSES_FILE = "classes.json"
UNCALIBRATED_WEIGHT = 0.5
"""Weight of a model that nobody has calibrated, in units of the members' mean weight."""
_ROUNDING = 0.01  # by which a row of probabilities may miss 1


class OpinionError(SynferError):
    """Probabilities that are none, or do not belong to these images and classes; the message says what was found."""


def read_opinion(path: Path, sample_ids: Sequence[str], names: LabelNames, *, columns: Sequence[str] | None = None) -> np.ndarray:
    """Probabilities (N, K) over `names.classes` for the images `sample_ids`, from a .npy or a Parquet file.

    A Parquet file has a column a class (`happy` or `p_happy`) and, unless its rows are those of `sample_ids`, a column `sample_id`; columns
    of numbers that name no class are not looked at. A .npy (N, C) has the order of `sample_ids`; `columns` names its classes, else the
    `classes.json` beside it. Classes that the members do not tell are left out and the rest scaled up. Raises OpinionError.
    """
    if not path.is_file():
        raise OpinionError(f"{path} does not exist")
    frame = _read_parquet(path, sample_ids) if path.suffix == ".parquet" else _read_npy(path, columns)
    if len(frame) != len(sample_ids):
        raise OpinionError(f"{path} has {len(frame)} rows, but there are {len(sample_ids)} images (unreadable ones count)")
    found = _class_columns(frame, names, path)
    _check_probabilities(frame[list(found.values())].to_numpy(dtype=np.float64), path)
    chosen = frame[[found[name] for name in names.classes]].to_numpy(dtype=np.float64)
    total = chosen.sum(axis=1, keepdims=True)
    return np.where(total > 0, chosen / np.maximum(total, 1e-12), 1 / len(names.classes))


def _class_columns(frame: pd.DataFrame, names: LabelNames, path: Path) -> dict[str, str]:
    """The column of each meaning; raises OpinionError where two mean the same or a class of the members has none."""
    meanings = {str(name): names.meaning(str(name).removeprefix("p_")) for name in frame.columns}
    found: dict[str, str] = {}
    for column, meaning in meanings.items():
        if meaning is None:
            continue
        if meaning in found and meaning not in (LEFT_OUT, UNLABELLED):
            raise OpinionError(f"{path}: the columns {found[meaning]!r} and {column!r} both mean {meaning}; leave one of them out")
        found[column if meaning in (LEFT_OUT, UNLABELLED) else meaning] = column
    if missing := [name for name in names.classes if name not in found]:
        strange = [column for column, meaning in meanings.items() if meaning is None]
        told = f"; these name none that is known: {', '.join(strange)}" if strange else ""
        raise OpinionError(f"{path} has no column of class {missing[0]!r}; there are: {', '.join(meanings)}{told}")
    return found


def _read_parquet(path: Path, sample_ids: Sequence[str]) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise OpinionError(f"{path} is not a readable Parquet file: {error}") from error
    if "sample_id" in frame.columns:
        frame = frame.set_index("sample_id")
        absent = next((sample_id for sample_id in sample_ids if sample_id not in frame.index), None)
        if absent is not None or not frame.index.is_unique:
            raise OpinionError(f"{path} has no row of sample {absent!r}" if absent is not None else f"{path}: sample_id is not unique")
        frame = frame.loc[list(sample_ids)]
    return frame.select_dtypes("number")


def _read_npy(path: Path, columns: Sequence[str] | None) -> pd.DataFrame:
    if path.suffix != ".npy":
        raise OpinionError(f"{path} is neither a .npy nor a .parquet file")
    try:
        table = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise OpinionError(f"{path} is not a readable array: {error}") from error
    beside = path.parent / CLASSES_FILE
    if columns is None and beside.is_file():
        columns = _read_classes(beside)
    if columns is None:
        raise OpinionError(f"{path}: which column is which class? Say so with --pred-probs-classes, or put {CLASSES_FILE} beside it")
    if not np.issubdtype(table.dtype, np.number):
        raise OpinionError(f"{path} holds {table.dtype.str}, no numbers")
    if table.ndim != 2 or table.shape[1] != len(columns):
        raise OpinionError(f"{path} has the shape {table.shape}, which does not fit {len(columns)} classes: {', '.join(columns)}")
    return pd.DataFrame(table, columns=list(columns))


def _read_classes(path: Path) -> list[str]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON, or of the encoding
        raise OpinionError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(names, list):
        raise OpinionError(f"{path} must hold a list of class names, found {type(names).__name__}")
    return [str(name) for name in names]


def _check_probabilities(table: np.ndarray, path: Path) -> None:
    wrong = ~np.isfinite(table).all(axis=1) | (table < 0).any(axis=1) | (np.abs(table.sum(axis=1) - 1) > _ROUNDING)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        shown = ", ".join(f"{value:.3g}" for value in table[row])
        raise OpinionError(f"{path}, row {row}: {shown} are no probabilities (they must be at least 0 and sum to 1)")


def with_opinion(result: Rectified, pooled: np.ndarray, given: np.ndarray | None, own: np.ndarray, *, strength: float) -> Rectified:
    """A rectification with the uncalibrated probabilities `own` (N, K) of the user's model added to the pool.

    `pooled` (N, K) is the pool with that model, see `pool_with`; `given` (N,) are the labels as they came, None for none.
    """
    after = pooled if given is None or result.noise is None else posterior(pooled, given, result.noise, strength=strength)
    probabilities = {**result.probabilities, MEMBER: own}
    choices = {name: table.argmax(axis=1) for name, table in probabilities.items()}
    decisions = decide(after, given, np.stack(list(choices.values())), result.thresholds)
    words = reasons(after, given, choices, decisions, result.thresholds, classes=result.classes, origin="given")
    return dataclasses.replace(result, posterior=after, decisions=decisions, reasons=words, probabilities=probabilities)


def pool_with(pooled: np.ndarray, own: np.ndarray, *, mean_weight: float) -> np.ndarray:
    """The members' pool (N, K) times the probabilities `own` (N, K) to the power of half of the members' mean weight."""
    return np.exp(log_probabilities(as_scores(pooled) + UNCALIBRATED_WEIGHT * mean_weight * as_scores(own)))
