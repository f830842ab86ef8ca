"""FER2013 (Goodfellow et al. 2013, arXiv 1307.0414): 35,887 grey faces of 48 pixels from the web, one label, people not named.

Kaggle's competition "Challenges in Representation Learning: Facial Expression Recognition Challenge", for its terms. The order of the
labels is that of the competition's data page. Twelve images are blank. People agree with the labels on about two thirds.

Layouts: `fer2013.csv` (emotion, pixels, Usage; PublicTest is val and PrivateTest test, as in the literature), or the class folders of
later copies (`train/angry/...`, `test/angry/...`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from synfer.datasets.entries import Entry, Format, Item, Layout, Problem
from synfer.datasets.files import csv_rows
from synfer.datasets.folders import holds_classes, read_class_folders
from synfer.datasets.names import LabelNames
from synfer.images import ImageError
from synfer.vocabulary import unknown

LABELS = {"0": "anger", "1": "disgust", "2": "fear", "3": "happiness", "4": "sadness", "5": "surprise", "6": "neutral"}
USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
LIST = "fer2013.csv"

PUBLISHED = {"anger": 4953, "disgust": 547, "fear": 5121, "happiness": 8989, "sadness": 6077, "surprise": 4002, "neutral": 6198}

_SIDE = 48


def read_csv(root: Path) -> Iterator[Entry]:
    """Rows of `fer2013.csv`; a row's name is its number, as FERPlus names it."""
    for number, row in enumerate(rows(root)):
        where, name = f"{root / LIST}, row {number}", f"fer{number:07d}"
        label, split = LABELS.get(row["emotion"].strip()), USAGES.get(row["Usage"].strip())
        if label is None:
            yield Problem(where, unknown("label", row["emotion"], LABELS))
        elif split is None:
            yield Problem(where, unknown("split", row["Usage"], USAGES))
        else:
            yield Item(name, where, image_of(row["pixels"], where), expression=label, split=split)


def rows(root: Path) -> Iterator[dict[str, str]]:
    """Rows of `fer2013.csv`; raises DatasetError if it or one of its columns is missing."""
    return csv_rows(root / LIST, ("Usage", "emotion", "pixels"))


def image_of(pixels: str, where: str) -> Callable[[], bytes]:
    """What makes a PNG of the 48 x 48 grey values of a row; it raises ImageError if they are not so many."""

    def read() -> bytes:
        try:
            values = np.array(pixels.split(), dtype=np.uint8)
        except (ValueError, OverflowError) as error:
            raise ImageError(f"{where}: not a readable image: {error}") from error
        if len(values) != _SIDE * _SIDE:
            raise ImageError(f"{where}: {len(values)} grey values, not {_SIDE} x {_SIDE}")
        buffer = io.BytesIO()
        Image.fromarray(values.reshape(_SIDE, _SIDE)).save(buffer, "PNG")
        return buffer.getvalue()

    return read


def read_folders(root: Path) -> Iterator[Entry]:
    """`{train,test}/{angry,disgust,fear,happy,neutral,sad,surprise}/*.jpg`."""
    return read_class_folders(root, meaning=LabelNames().meaning)


FORMAT = Format(
    title="FER2013",
    licence="that of Kaggle's competition; no redistribution",
    source="https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
    layouts=(
        Layout("csv", LIST, lambda root: (root / LIST).is_file(), read_csv),
        Layout("class folders", "train/angry/*.jpg", lambda root: holds_classes(root / "train", "angry", "happy"), read_folders),
    ),
    published=PUBLISHED,
)
