"""An export read back: the rows of the release that went into it, whichever format they took."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.export.cells import ExportError, type_of_name
from components.export.imagefolder import read_imagefolder
from components.export.parquet import read_parquet
from components.export.webdataset import read_webdataset
from components.export.write import RECORD


def read_export(folder: Path) -> Iterator[pa.Table]:
    """Stream the rows of an export with their images, split by split, in the order of the release; raises ExportError if it is none."""
    about = _read_record(folder)
    for split in about["splits"]:
        if about["format"] == "parquet":
            yield from read_parquet(folder, split, label=about["label"])
        else:
            schema = pa.schema([(name, type_of_name(kind)) for name, kind in about["columns"]])
            read = read_imagefolder if about["format"] == "imagefolder" else read_webdataset
            yield from read(folder, split, schema)


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExportError(f"{folder} is no export: it holds no {RECORD}") from None
    return record
