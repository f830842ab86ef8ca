"""Class folders: `<split>/<class>/<sample>.png` and `<split>/metadata.csv`, as torchvision's and `datasets`' ImageFolder read them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from components.export.cells import cell, image_name, plain_of_cell, plain_rows, rows_of_plain, type_of_name
from components.releases.folder import ROWS_AT_ONCE

METADATA, _FILE_NAME = "metadata.csv", "file_name"


class ImageFolderWriter:
    """Writes the rows of one split; the column `label` names the class."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, *, label: str) -> None:
        self._folder, self._label = folder / split, label
        columns = [field.name for field in schema if field.name != "image"]
        for name in columns:
            type_of_name(str(schema.field(name).type))
        self._folder.mkdir()
        self._file = (self._folder / METADATA).open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file)
        self._csv.writerow([_FILE_NAME, *columns])

    def add(self, rows: pa.Table) -> None:
        """Write the images of some rows, and their lines."""
        for row, image in zip(plain_rows(rows), rows["image"].to_pylist(), strict=True):
            path = self._folder / row[self._label] / image_name(row["sample_id"], image)
            path.parent.mkdir(exist_ok=True)
            with path.open("xb") as file:  # a second sample of the same name is an error
                file.write(image["bytes"])
            self._csv.writerow([path.relative_to(self._folder).as_posix(), *map(cell, row.values())])

    def close(self) -> None:
        """Finish the table."""
        self._file.close()


def read_imagefolder(folder: Path, split: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """Stream the rows of a split as they were in the release; `schema` is theirs without `image`."""
    with (folder / split / METADATA).open(encoding="utf-8", newline="") as file:
        lines: list[dict[str, str]] = []
        for line in csv.DictReader(file):
            lines.append(line)
            if len(lines) == ROWS_AT_ONCE:
                yield _table(folder / split, lines, schema)
                lines = []
        if lines:
            yield _table(folder / split, lines, schema)


def _table(folder: Path, lines: list[dict[str, str]], schema: pa.Schema) -> pa.Table:
    rows = rows_of_plain([{field.name: plain_of_cell(line[field.name], field.type) for field in schema} for line in lines], schema)
    paths = [folder / line[_FILE_NAME] for line in lines]
    return rows.append_column("image", pa.array([{"bytes": path.read_bytes(), "path": path.name} for path in paths]))
