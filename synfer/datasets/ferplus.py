"""FERPlus (Barsoum et al. 2016, arXiv 1608.01041): ten votes for every image of FER2013.

The votes are under the MIT licence at https://github.com/microsoft/FERPlus; the images are FER2013's, under its terms. The order of the
columns is their header's. `fer2013new.csv` and `fer2013.csv` lie side by side, row by row of one image.

Votes are kept as they are, so that training sees their shares. The label is the expression of most votes; a tie has no label. A row
without an image name was dropped by the authors; one that most annotators called unknown or no face is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from synfer.datasets.entries import DatasetError, Entry, Format, Item, Layout, LeftOut, Problem
from synfer.datasets.fer2013 import LIST, USAGES, image_of, rows
from synfer.datasets.files import csv_rows
from synfer.vocabulary import EXPRESSIONS, unknown

VOTES = "fer2013new.csv"
NO_CLASS = {"unknown": "most annotators say unknown", "NF": "most annotators say no face"}


def read(root: Path) -> Iterator[Entry]:
    """Items with votes; raises DatasetError if a file is missing or the two do not belong together."""
    for number, (image, votes) in enumerate(zip_longest(rows(root), _votes(root))):
        where = f"{root / VOTES}, row {number}"
        if image is None or votes is None:
            shorter = LIST if image is None else VOTES
            raise DatasetError(f"{root / shorter} ends at row {number}, the other list goes on; they must be of one set")
        if image["Usage"].strip() != votes["Usage"].strip():
            raise DatasetError(f"{where} is of {votes['Usage']}, that of {LIST} of {image['Usage']}; they must be of one set")
        yield _entry(image, votes, where)


def _entry(image: dict[str, str], votes: dict[str, str], where: str) -> Entry:
    split = USAGES.get(votes["Usage"].strip())
    if split is None:
        return Problem(where, unknown("split", votes["Usage"], USAGES))
    if not votes["Image name"].strip():
        return LeftOut(where, "dropped by FERPlus")
    try:
        counts = {name: int(votes[name]) for name in (*EXPRESSIONS, *NO_CLASS)}
    except ValueError:
        return Problem(where, "a vote is no number")
    most = max(counts.values())
    first = [name for name, count in counts.items() if count == most]
    if set(first) & set(NO_CLASS) or not most:
        return LeftOut(where, next((why for name, why in NO_CLASS.items() if name in first), "no votes"))
    name = Path(votes["Image name"].strip()).stem
    found = tuple(counts[expression] for expression in EXPRESSIONS)
    label = first[0] if len(first) == 1 else ""
    return Item(name, where, image_of(image["pixels"], where), expression=label, split=split, votes=found)


def _votes(root: Path) -> Iterator[dict[str, str]]:
    return csv_rows(root / VOTES, ("Usage", "Image name", *EXPRESSIONS, *NO_CLASS), comes_from="https://github.com/microsoft/FERPlus")


FORMAT = Format(
    title="FERPlus",
    licence="votes MIT; images under FER2013's terms, no redistribution",
    source="https://github.com/microsoft/FERPlus",
    layouts=(Layout("csv", f"{LIST} and {VOTES}", lambda root: (root / VOTES).is_file() or (root / LIST).is_file(), read),),
)
