"""Action units of real faces: from a table on disk, or from a detector (py-feat).

Sources speak three languages; a manifest has one, intensities 0..5 with NaN where unknown:

    intensity     0..5, FACS' absent, A .. E                         as it is
    presence      0 or 1, where 1 means B or more                    1 becomes PRESENT: C, marked
    probability   0..1 of presence                                   0 below UNSURE, PRESENT above it, unknown inside
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Literal, Protocol, get_args

import numpy as np
import pandas as pd

from synfer.errors import SynferError
from synfer.vocabulary import AU_COUNT, AU_INDEX, MAX_INTENSITY, unknown

Scale = Literal["intensity", "presence", "probability"]

PRESENT = 3.0
UNSURE = (0.3, 0.7)
KEYS = ("sample_id", "file", "file_name", "filename", "path", "image", "input")
"""Columns that may name the image, first come first served."""

_LIMITS: dict[Scale, tuple[float, str]] = {"intensity": (MAX_INTENSITY, "0..5"), "presence": (1.0, "0 or 1"), "probability": (1.0, "0..1")}
_AU_COLUMN = re.compile(r"(?:AU)?\s*([LR]?)0*(\d+)(?:_r)?", re.IGNORECASE)  # AU12, 12, L12, AU01, OpenFace's AU01_r


class ActionUnitError(SynferError):
    """A table or a detector that gives no action units; the message names the column, the sample, the value or the missing package."""


class ActionUnitSource(Protocol):
    """Gives AU intensities; `needs_images` says whether it looks at the pixels, else `images` may be empty.

    An optional `name` tells it from others of its class: with the same class and name, work that was interrupted goes on, and an image at
    which it has looked is not shown to it again.
    """

    @property
    def needs_images(self) -> bool: ...

    def __call__(self, images: Sequence[np.ndarray], rows: pd.DataFrame) -> np.ndarray:
        """Intensities float32 (N, AU_COUNT), 0..5, NaN where unknown; `images` are RGB uint8 (H, W, 3), in the order of `rows`."""


class ActionUnitTable:
    """AUs of a table: a row an image, a column an AU."""

    needs_images = False
    name: str
    """Digest of what it knows."""

    def __init__(self, frame: pd.DataFrame, sample_ids: Iterable[str], *, scale: Scale | None = None, where: str = "table") -> None:
        """Match the rows of `frame` with samples: by `sample_id`, or by a file name whose stem (or whole) is the sample_id.

        Without `scale`, a table of nothing but 0 and 1 is read as presence, and one with values above 1 as intensities. Raises
        ActionUnitError on values up to 1 that may be probabilities or low intensities, a missing key or AU column, a value out of range, a
        sample with two rows, or a table that knows none of the samples.
        """
        columns, self.ignored = _au_columns(frame, where)
        if not columns:
            raise ActionUnitError(f"{where} has no AU column such as AU12, 12 or L12; found: {', '.join(map(str, frame.columns))}")
        keys = _keys(frame, where)
        values = np.stack([_numbers(frame[column], keys, column, where) for column in columns], axis=1)
        self.scale = scale if scale is not None else _scale_of(values, where)
        self._check_range(values, keys, list(columns), where)
        self._aus = np.full((len(frame), AU_COUNT), np.nan, dtype=np.float32)
        intensities = values if self.scale == "intensity" else presence_intensity(values)
        self._aus[:, [AU_INDEX[code] for code in columns.values()]] = intensities
        self._row = _match(keys, list(sample_ids), by_file=keys.name != "sample_id", where=where)
        self.name = hashlib.sha256(self._aus.tobytes() + repr(self._row).encode()).hexdigest()

    @classmethod
    def read(cls, path: Path, sample_ids: Iterable[str], *, scale: Scale | None = None) -> ActionUnitTable:
        """The table of a CSV or Parquet file; raises ActionUnitError if it cannot be read."""
        return cls(_read(path), sample_ids, scale=scale, where=str(path))

    def __call__(self, images: Sequence[np.ndarray], rows: pd.DataFrame) -> np.ndarray:
        found = np.full((len(rows), AU_COUNT), np.nan, dtype=np.float32)
        for place, sample_id in enumerate(rows["sample_id"]):
            if sample_id in self._row:
                found[place] = self._aus[self._row[sample_id]]
        return found

    def _check_range(self, values: np.ndarray, keys: pd.Series, columns: list[str], where: str) -> None:
        high, known = _LIMITS[self.scale]
        wrong = (values < 0) | (values > high) | ((self.scale == "presence") & ~np.isin(values, (0.0, 1.0)) & ~np.isnan(values))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            found = f"{values[row, column]:g} in column {columns[column]}"
            raise ActionUnitError(f"{where}, {keys.iloc[row]}: {found} is no {self.scale} ({known}, empty if unknown)")


def presence_intensity(probability: np.ndarray) -> np.ndarray:
    """Intensities of probabilities of presence, any shape: 0, PRESENT, or NaN where the detector is unsure or has not looked."""
    low, high = UNSURE
    return np.select([probability < low, probability >= high], [0.0, PRESENT], np.nan).astype(np.float32)


def au_code(column: str) -> str | None:
    """The AU code that a column names ("AU12", "12", "L12", "AU01", "AU01_r"), one that is not in the vocabulary too; None for none."""
    match = _AU_COLUMN.fullmatch(str(column).strip())
    return f"{match[1].upper()}{match[2]}" if match else None


def check_scale(name: str) -> Scale:
    """`name` if it is a scale, else raise ActionUnitError with the known ones."""
    for scale in get_args(Scale):
        if name == scale:
            return scale
    raise ActionUnitError(unknown("AU scale", name, get_args(Scale)))


def _scale_of(values: np.ndarray, where: str) -> Scale:
    """What the values of a whole table mean; raises ActionUnitError where they may mean two things."""
    known = values[~np.isnan(values)]
    if (between := known[(known > 0) & (known < 1)]).size and known.min() >= 0 and known.max() <= 1:
        raise ActionUnitError(
            f"{where} holds values from 0 to 1 such as {between[0]:g}, probabilities or low intensities; "
            "say which: --au-scale probability, or --au-scale intensity"
        )
    return "presence" if np.isin(known, (0.0, 1.0)).all() else "intensity"


def _au_columns(frame: pd.DataFrame, where: str) -> tuple[dict[str, str], list[str]]:
    """Code by column, and the columns that name an AU which the vocabulary lacks."""
    codes = {column: code for column in frame.columns if (code := au_code(column)) is not None}
    known = {column: code for column, code in codes.items() if code in AU_INDEX}
    twice = [column for column, code in known.items() if list(known.values()).count(code) > 1]
    if twice:
        raise ActionUnitError(f"{where}: the columns {' and '.join(twice)} name one AU; keep one of them")
    return known, [column for column in codes if column not in known]


def _keys(frame: pd.DataFrame, where: str) -> pd.Series:
    """The column that names the image, as text, under its canonical name."""
    named = {str(column).strip().lower(): column for column in frame.columns}
    found = next((name for name in KEYS if name in named), None)
    if found is None:
        raise ActionUnitError(f"{where} has no column that names the image; known: {', '.join(KEYS)}")
    return frame[named[found]].astype(str).str.strip().rename(found)


def _numbers(column: pd.Series, keys: pd.Series, name: str, where: str) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce")
    text = values.isna() & column.notna()
    if text.any():
        row = int(np.flatnonzero(text)[0])
        raise ActionUnitError(f"{where}, {keys.iloc[row]}, column {name}: {column.iloc[row]!r} is no number")
    return values.to_numpy(dtype=np.float64)


def _match(keys: pd.Series, sample_ids: list[str], *, by_file: bool, where: str) -> dict[str, int]:
    """Row of the table by sample_id, for the samples that it knows."""
    rows: dict[str, int] = {}
    wanted = set(sample_ids)
    for row, key in enumerate(keys):
        sample_id = key if key in wanted or not by_file else PurePath(key).stem
        if sample_id in rows:
            raise ActionUnitError(f"{where}: {keys.iloc[rows[sample_id]]} and {key} both name sample {sample_id}")
        rows[sample_id] = row
    if not wanted & rows.keys():
        shown = f"its first {keys.name} is {keys.iloc[0]!r}" if len(keys) else "it is empty"
        raise ActionUnitError(f"{where} knows none of the {len(sample_ids)} samples; {shown}, the first sample is {sample_ids[0]!r}")
    return rows


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ActionUnitError(f"AU table {path} is no file; give a CSV or Parquet file, or pyfeat")
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, skipinitialspace=True, dtype=str)
    except (ValueError, OSError) as error:  # parser errors of pandas and pyarrow are ValueErrors
        raise ActionUnitError(f"AU table {path} is not readable: {error}") from error
