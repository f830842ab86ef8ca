"""The manifest: what travels between stages, a table with one row an image, `manifest.parquet` in a dataset folder.

A stage never edits another's folder and never drops a column: rectification adds `label` beside `expression`; the intent stays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synfer.errors import SynferError
from synfer.files import DamagedFileError, whole_file
from synfer.vocabulary import AU_COUNT, EXPRESSIONS, MAX_INTENSITY, unknown

FILE_NAME = "manifest.parquet"
SPLITS = ("train", "val", "test")

REQUIRED: dict[str, pa.DataType] = {
    "sample_id": pa.string(),  # unique; the key of the image in the shards
    "split": pa.string(),  # train, val or test
    "identity": pa.string(),  # person, the unit of splitting; "" when unknown
    "expression": pa.string(),  # what the image came with: the annotated label of a real face, the intent of a generated one
    "caption": pa.string(),
    "aus": pa.list_(pa.float32()),  # AU_COUNT intensities 0..5; NaN where unknown
    "seed": pa.int64(),  # of the sample's own generator; -1 for photographs
    "sha256": pa.string(),  # of the encoded image
}
OPTIONAL: dict[str, pa.DataType] = {
    "true_expression": pa.string(),  # procedural faces only: the exact truth, read by evaluation and benchmarks alone
    "votes": pa.list_(pa.int16()),  # annotators' votes over EXPRESSIONS
    "aus_sought_by": pa.list_(pa.string()),  # real faces: detectors that have looked for AUs in the image, whether they found any or not
    "layout_from": pa.string(),  # generated faces: corpus image whose layout the denoising started from; "" for fresh noise
    "plan_cell": pa.string(),  # generated faces: cell of the plan that asked for it; "" without a plan
    "compound": pa.string(),  # generated faces: asked compound expression, `expression` is "" then; "" for none
    "label": pa.string(),  # rectified label (argmax of `posterior`, or the intent when kept)
    "posterior": pa.list_(pa.float32()),  # pooled probabilities over EXPRESSIONS
    "entropy": pa.float32(),  # of the posterior, nats
    "agreement": pa.float32(),  # share of members whose argmax is the label
    "action": pa.string(),  # keep, relabel, soften or reject
    "reason": pa.string(),  # why, in words
    "aus_seen": pa.list_(pa.float32()),  # generated faces: AU_COUNT intensities 0..5 that FERAnno sees; NaN where it cannot be trusted
}


class ManifestError(SynferError):
    """A manifest that is missing or breaks its schema; the message names the file, the column and the value."""


class DamagedManifestError(DamagedFileError, ManifestError):
    """A manifest that is cut off, or whose bytes are not those that were written."""


def check_manifest(frame: pd.DataFrame, *, where: str = "manifest") -> pd.DataFrame:
    """Return `frame` if it keeps the schema, else raise ManifestError naming the first column and value that do not."""
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise ManifestError(f"{where}: column {missing[0]!r} is missing; a manifest needs {', '.join(REQUIRED)}")
    repeated = frame.loc[frame["sample_id"].duplicated(), "sample_id"]
    if len(repeated):
        raise ManifestError(f"{where}: sample_id {repeated.iloc[0]!r} occurs more than once")
    _check_values(frame["split"], SPLITS, "split", where)
    _check_values(frame["expression"], ("", *EXPRESSIONS), "expression", where)
    if "label" in frame.columns:
        _check_values(frame["label"], EXPRESSIONS, "label", where)
    _check_aus(frame, where)
    return frame


def _check_values(column: pd.Series, known: tuple[str, ...], name: str, where: str) -> None:
    strange = column[~column.isin(known)]
    if len(strange):
        raise ManifestError(f"{where}: {unknown(name, strange.iloc[0], known)} (and {len(strange) - 1} more)")


def _check_aus(frame: pd.DataFrame, where: str) -> None:
    for column in ("aus", "aus_seen"):
        if column not in frame.columns:
            continue
        lengths = frame[column].map(len)
        if (lengths != AU_COUNT).any():
            row = frame[lengths != AU_COUNT].iloc[0]
            raise ManifestError(f"{where}: sample {row['sample_id']} has {len(row[column])} AU intensities, not {AU_COUNT}, in {column!r}")
        aus = stack(frame, column)
        if (bad := (aus < 0) | (aus > MAX_INTENSITY)).any():
            raise ManifestError(f"{where}: an AU intensity of {aus[bad][0]:g} lies outside 0..5, in {column!r}")


def read_manifest(folder: Path) -> pd.DataFrame:
    """The checked manifest of a dataset folder; raises ManifestError if it is missing, unreadable or breaks the schema."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise ManifestError(f"{path} does not exist")
    try:
        frame = pq.read_table(path).to_pandas()
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise DamagedManifestError(path, error) from error
    return check_manifest(frame, where=str(path))


def write_manifest(frame: pd.DataFrame, folder: Path) -> Path:
    """Check `frame` and write it to a dataset folder, whole or not at all; returns the path.

    The bytes depend on the rows alone, so two runs that agree leave equal files.
    """
    check_manifest(frame, where=str(folder / FILE_NAME))
    known = REQUIRED | OPTIONAL
    columns = [name for name in known if name in frame.columns] + sorted(name for name in frame.columns if name not in known)
    arrays = {name: pa.array(frame[name].tolist(), known.get(name)) for name in columns}
    with whole_file(folder / FILE_NAME) as temporary:
        pq.write_table(pa.table(arrays), temporary, compression="zstd")
    return folder / FILE_NAME


def stack(frame: pd.DataFrame, column: str) -> np.ndarray:
    """A list column as one array (N, length); an empty frame gives (0, 0)."""
    return np.stack([np.asarray(value) for value in frame[column]]) if len(frame) else np.zeros((0, 0))
