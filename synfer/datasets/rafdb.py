"""RAF-DB, basic expressions (Li, Deng & Du, CVPR 2017): photographs from the web, about 40 annotators each, one label.

Research use only, on request at http://www.whdeng.cn/RAF/model1.html. The order of the labels is that of the distribution's readme. The
set has train and test; a val split is taken from train. People are not named.

Layouts: the distribution's list (spelt `patition`) with aligned faces, or class folders of the numbers 1 to 7 in train and test.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from synfer.datasets.entries import DatasetError, Entry, Format, Item, Layout, Problem
from synfer.datasets.files import first_existing
from synfer.datasets.folders import read_class_folders
from synfer.vocabulary import unknown

LABELS = {"1": "surprise", "2": "fear", "3": "disgust", "4": "happiness", "5": "sadness", "6": "anger", "7": "neutral"}

PUBLISHED = {"surprise": 1619, "fear": 355, "disgust": 877, "happiness": 5957, "sadness": 2460, "anger": 867, "neutral": 3204}
"""12,271 training and 3,068 test images."""

_LISTS = ("EmoLabel/list_patition_label.txt", "basic/EmoLabel/list_patition_label.txt", "list_patition_label.txt")
_ALIGNED = ("Image/aligned", "basic/Image/aligned", "aligned")
_PREFIXES = {"train": "train", "test": "test"}


def read_list(root: Path) -> Iterator[Entry]:
    """Lines `train_00001.jpg 5` of the list; raises DatasetError if the folder of aligned faces is missing."""
    path, folder = first_existing(root, *_LISTS), first_existing(root, *_ALIGNED)
    if path is None or folder is None:
        raise DatasetError(f"{root} has no {_LISTS[0] if path is None else _ALIGNED[0]}")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            yield _listed(line.split(), folder, where=f"{path}, line {number}")


def _listed(fields: list[str], folder: Path, *, where: str) -> Entry:
    if len(fields) != 2:
        return Problem(where, f"expected a file and a number, as in 'train_00001.jpg 5', found {' '.join(fields)!r}")
    name, label = fields
    if label not in LABELS:
        return Problem(where, unknown("label", label, LABELS))
    split = _PREFIXES.get(name.partition("_")[0])
    if split is None:
        return Problem(where, f"{name!r} begins with none of the splits {', '.join(_PREFIXES)}")
    plain = Path(name)
    file = folder / f"{plain.stem}_aligned{plain.suffix}"
    return Item(name, str(file), file.read_bytes, expression=LABELS[label], split=split)


def read_folders(root: Path) -> Iterator[Entry]:
    """`DATASET/{train,test}/{1..7}/*.jpg`."""
    return read_class_folders(_parts(root) or root, meaning=LABELS.get, strange=partial(unknown, "class", known=LABELS))


def _parts(root: Path) -> Path | None:
    """The folder that holds train and test with numbered classes."""
    return next((place for place in (root, root / "DATASET") if (place / "train" / "1").is_dir() and (place / "test").is_dir()), None)


FORMAT = Format(
    title="RAF-DB",
    licence="non-commercial research, by agreement with the authors",
    source="http://www.whdeng.cn/RAF/model1.html",
    layouts=(
        Layout(
            "list", "EmoLabel/list_patition_label.txt with Image/aligned/train_00001_aligned.jpg",
            lambda root: first_existing(root, *_LISTS, *_ALIGNED) is not None, read_list,
        ),
        Layout("class folders", "DATASET/{train,test}/{1..7}/*.jpg", lambda root: _parts(root) is not None, read_folders),
    ),
    published=PUBLISHED,
)  # fmt: skip
