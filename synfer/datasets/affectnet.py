"""AffectNet (Mollahosseini, Hasani & Mahoor 2017, arXiv 1708.03985): photographs from the web, one annotator, valence and arousal.

Research use only, on request at http://mohammadmahoor.com/affectnet/. The order of the labels is that of the paper's table 1 and of the
readme of the distribution; 8, 9 and 10 (none, uncertain, no face) are left out. Its test set is not public, so its validation set is the
test split here, as in the literature; a val split is taken from train.

Layouts: A, the manually annotated part of the first distribution (whole photographs; the lists give the face's box); B, that of 2021
(cropped faces, one file of labels an image); C, a copy of 96 pixels with class folders, whose labels a model has changed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synfer.datasets.entries import DatasetError, Entry, Format, Item, Layout, LeftOut, Problem
from synfer.datasets.files import first_existing, images, name_of
from synfer.datasets.folders import holds_classes, read_class_folders
from synfer.datasets.names import LabelNames
from synfer.vocabulary import unknown

LABELS = {
    "0": "neutral", "1": "happiness", "2": "sadness", "3": "surprise", "4": "fear", "5": "disgust", "6": "anger", "7": "contempt",
}  # fmt: skip
NO_CLASS = {"8": "label none", "9": "label uncertain", "10": "label non-face"}

PUBLISHED = {
    "neutral": 75374, "happiness": 134915, "sadness": 25959, "surprise": 14590, "fear": 6878, "disgust": 4303, "anger": 25382,
    "contempt": 4250,
}  # fmt: skip
"""Images of the manually annotated training and validation sets (table 3 of the paper, plus 500 a class)."""

_COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression", "valence", "arousal",
)  # fmt: skip
_LISTS = {"training.csv": "train", "validation.csv": "test"}
_LIST_FOLDERS = (".", "Manually_Annotated_file_lists")
_IMAGE_FOLDERS = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated")
_NO_VALUE = -2.0  # of valence and arousal


def read_lists(root: Path) -> Iterator[Entry]:
    """Layout A; raises DatasetError if a list or the folder of images is missing."""
    folder = first_existing(root, *_IMAGE_FOLDERS)
    if folder is None:
        raise DatasetError(f"{root} has none of the folders {', '.join(_IMAGE_FOLDERS)}")
    for name, split in _LISTS.items():
        path = first_existing(root, *(f"{place}/{name}" for place in _LIST_FOLDERS))
        if path is None:
            raise DatasetError(f"{root} has no {name}, AffectNet's list of its {'training' if split == 'train' else 'validation'} images")
        with path.open(newline="", encoding="utf-8") as stream:
            for number, row in enumerate(csv.reader(stream), 1):
                if row and row[0] != _COLUMNS[0]:  # some copies have no header
                    yield _listed(dict(zip(_COLUMNS, row, strict=False)), folder, split, where=f"{path}, line {number}")


def _listed(row: dict[str, str], folder: Path, split: str, *, where: str) -> Entry:
    if len(row) < len(_COLUMNS):
        return Problem(where, f"{len(row)} columns, not {len(_COLUMNS)}")
    file, label = folder / row["subDirectory_filePath"], row["expression"].strip()
    if label not in LABELS:
        return LeftOut(str(file), NO_CLASS[label]) if label in NO_CLASS else Problem(where, unknown("label", label, LABELS | NO_CLASS))
    try:
        x, y, width, height = (round(float(row[name])) for name in ("face_x", "face_y", "face_width", "face_height"))
        valence, arousal = _value(row["valence"]), _value(row["arousal"])
    except ValueError:
        return Problem(where, "the face's box, valence or arousal is no number")
    return Item(
        row["subDirectory_filePath"], str(file), file.read_bytes, expression=LABELS[label], split=split, valence=valence, arousal=arousal,
        box=(x, y, width, height),
    )  # fmt: skip


def _value(text: str) -> float:
    value = float(text)
    return math.nan if value == _NO_VALUE else value


def read_arrays(root: Path) -> Iterator[Entry]:
    """Layout B: a file of labels an image, `<id>_exp.npy` with the number as text."""
    for folder, split in (("train_set", "train"), ("val_set", "test")):
        if not (root / folder / "images").is_dir() or not (root / folder / "annotations").is_dir():
            raise DatasetError(f"{root / folder} needs the folders images and annotations")
        for file in images(root / folder / "images"):
            yield _annotated(file, root, split)


def _annotated(file: Path, root: Path, split: str) -> Entry:
    stem = file.parents[1] / "annotations" / file.stem
    try:
        label, valence, arousal = (str(np.load(f"{stem}_{kind}.npy").item()) for kind in ("exp", "val", "aro"))
        values = _value(valence), _value(arousal)
    except (OSError, ValueError) as error:
        return Problem(str(file), f"its labels cannot be read: {error}")
    if label not in LABELS:
        found = f"{stem}_exp.npy"
        return LeftOut(str(file), NO_CLASS[label]) if label in NO_CLASS else Problem(found, unknown("label", label, LABELS | NO_CLASS))
    return Item(
        name_of(file, root), str(file), file.read_bytes, expression=LABELS[label], split=split, valence=values[0], arousal=values[1]
    )


def read_relabelled(root: Path) -> Iterator[Entry]:
    """Layout C: the class folders; `labels.csv` repeats their names and holds the relabelling model's confidence, which is not used."""
    return read_class_folders(root, meaning=LabelNames().meaning)


def _has_lists(root: Path) -> bool:
    return first_existing(root, *(f"{place}/{name}" for place in _LIST_FOLDERS for name in _LISTS)) is not None


FORMAT = Format(
    title="AffectNet",
    licence="research only, by agreement with the authors",
    source="http://mohammadmahoor.com/affectnet/",
    layouts=(
        Layout("A", "training.csv, validation.csv and Manually_Annotated_Images/<dir>/<hash>.jpg", _has_lists, read_lists),
        Layout(
            "B", "{train,val}_set/images/<id>.jpg with annotations/<id>_{exp,val,aro}.npy",
            lambda root: (root / "train_set").is_dir() or (root / "val_set").is_dir(), read_arrays,
        ),
        Layout(
            "C", "class folders with labels.csv", lambda root: (root / "labels.csv").is_file() and holds_classes(root, "anger", "fear"),
            read_relabelled, note="not official: a model has changed the labels of this copy, and has learned from some of its images",
        ),
    ),
    published=PUBLISHED,
)  # fmt: skip
