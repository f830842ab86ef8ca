"""Rows of a release as text, and back without loss: cells of a CSV file and values of JSON.

Lists are JSON; NaN is null in JSON and an empty cell in CSV, as both have no other word for it. Floats are written with all their digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from synfer.errors import SynferError

_NAME = re.compile(r"[\w-]+")
_LIST = re.compile(r"list<(?:\w+: )?(.+)>")


class ExportError(SynferError):
    """What cannot be exported, or not to there; the message says why."""


def plain_rows(rows: pa.Table) -> list[dict[str, Any]]:
    """The rows as JSON can hold them, without `image`.

    Raises ExportError for a sample whose name cannot name a file, and for a null, which text cannot tell from NaN or "".
    """
    rows = rows.drop_columns(["image"])
    plain = rows.to_pylist()
    for row in plain:
        if not _NAME.fullmatch(row["sample_id"]):
            raise ExportError(f"sample_id {row['sample_id']!r} cannot name a file: letters, digits, _ and - can; export to parquet instead")
        for name, value in row.items():
            if value is None or (isinstance(value, list) and None in value):
                raise ExportError(f"sample {row['sample_id']}: {name} has a null, which text cannot hold; export to parquet instead")
    return [{name: _without_nan(value) for name, value in row.items()} for row in plain]


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if value != value else value


def rows_of_plain(plain: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """The inverse of `plain_rows`; `schema` has no `image`."""
    return pa.table({field.name: _array([row[field.name] for row in plain], field.type) for field in schema}, schema=schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return pa.array([_with_nan(value, kind) for value in values], kind)


def _with_nan(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return [_with_nan(item, kind.value_type) for item in value]
    return float("nan") if value is None else value


def cell(value: Any) -> str:
    """A plain value as a cell of a CSV file."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def plain_of_cell(text: str, kind: pa.DataType) -> Any:
    """The inverse of `cell`."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return text
    return json.loads(text) if text else None


def type_of_name(name: str) -> pa.DataType:
    """The Arrow type that `str` gave this name; raises ExportError for one that a manifest does not have."""
    if found := _LIST.fullmatch(name):
        return pa.list_(type_of_name(found[1]))
    try:
        return pa.type_for_alias(name)
    except ValueError:
        raise ExportError(f"a column of type {name} cannot be exported as text; export to parquet instead") from None


def image_name(sample_id: str, image: Mapping[str, Any]) -> str:
    """File name of an image: the sample's name, with the ending that it has in the release."""
    _, dot, ending = (image["path"] or "").rpartition(".")
    return f"{sample_id}.{ending if dot else 'png'}"
