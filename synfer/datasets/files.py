"""Files of a data set: walking a folder, naming images, splits by the names that data sets give them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from synfer.datasets.entries import DatasetError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")

SPLITS: dict[str, str] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What data sets call the splits, in lower case."""


def walk(folder: Path) -> Iterator[Path]:
    """Files below a folder, sorted folder by folder; hidden ones are left out."""
    entries = sorted((entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from walk(folder / entry.name)
        else:
            yield folder / entry.name


def images(folder: Path) -> Iterator[Path]:
    """Image files below a folder, in the order of `walk`."""
    return (file for file in walk(folder) if file.suffix.lower() in SUFFIXES)


def name_of(file: Path, root: Path) -> str:
    """Path of a file below the root, with forward slashes."""
    return file.relative_to(root).as_posix()


def first_existing(root: Path, *names: str) -> Path | None:
    """The first of the named files or folders that is there."""
    return next((root / name for name in names if (root / name).exists()), None)


def csv_rows(path: Path, columns: Sequence[str], *, comes_from: str = "") -> Iterator[dict[str, str]]:
    """Rows of a CSV file, an empty cell as ""; raises DatasetError if the file or one of the `columns` is missing."""
    if not path.is_file():
        raise DatasetError(f"{path} does not exist{comes_from and f'; it comes from {comes_from}'}")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        there = reader.fieldnames or ()
        missing = next((name for name in columns if name not in there), None)
        if missing is not None:
            raise DatasetError(f"{path} has no column {missing!r}; there are: {', '.join(there)}")
        yield from ({name: value or "" for name, value in row.items()} for row in reader)
