"""Tiny images and miniature trees in the exact layouts of published data sets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synfer.datasets.entries import Entry, Item, Problem
from synfer.datasets.registry import known_format

Maker = Callable[[Path], Path]


def picture(number: int, *, kind: str = "PNG", size: tuple[int, int] = (24, 24)) -> bytes:
    """An image that is like no other; width and height in pixels."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def put(root: Path, name: str, data: bytes | str | None = None) -> Path:
    """Write a file; without data an image of the name's format."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
        kind = {".jpg": "JPEG", ".JPG": "JPEG", ".tiff": "TIFF"}.get(path.suffix, "PNG")
        data = picture(sum(name.encode()) * 31 + len(name), kind=kind)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def put_csv(root: Path, name: str, rows: Iterable[Sequence[object]]) -> Path:
    """Write a table."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return put(root, name, text.getvalue())


def make_folder(root: Path) -> Path:
    for name in ("train/happy/a.png", "train/happy/b.jpg", "val/Angry/c.png", "test/3_sad/d.png"):
        put(root, name)
    return root


AFFECTNET = [
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
]


def make_affectnet_a(root: Path) -> Path:
    row = lambda name, label, valence=0.5, arousal=-0.25: [name, 4, 8, 16, 16, "1;2", label, valence, arousal]  # noqa: E731
    put_csv(root, "training.csv", [AFFECTNET, row("1/a.jpg", 1), row("1/b.jpg", 7), row("2/c.jpg", 10, -2, -2), row("2/d.jpg", 8, -2, -2)])
    put_csv(root, "validation.csv", [row("3/e.jpg", 4)])  # some copies have no header
    for name in ("1/a.jpg", "1/b.jpg", "2/c.jpg", "2/d.jpg", "3/e.jpg"):
        put(root, f"Manually_Annotated_Images/{name}")
    return root


def make_affectnet_b(root: Path) -> Path:
    for folder, number, label in (("train_set", 0, "6"), ("train_set", 17, "2"), ("val_set", 5, "0")):
        put(root, f"{folder}/images/{number}.jpg")
        (root / folder / "annotations").mkdir(exist_ok=True)
        for kind, value in (("exp", label), ("val", "-0.5"), ("aro", "0.25")):
            np.save(root / folder / "annotations" / f"{number}_{kind}.npy", np.array(value))
    return root


def make_affectnet_c(root: Path) -> Path:
    names = ("anger", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    for number, name in enumerate(names):
        put(root, f"{name}/image{number:07d}.jpg")
    put_csv(
        root, "labels.csv", [["", "pth", "label", "relFCs"], *([n, f"{name}/image{n:07d}.jpg", name, 0.9] for n, name in enumerate(names))]
    )
    return root


def make_rafdb(root: Path) -> Path:
    put(root, "EmoLabel/list_patition_label.txt", "train_00001.jpg 5\ntrain_00002.jpg 7\ntest_0001.jpg 1\n")
    for name in ("train_00001", "train_00002", "test_0001"):
        put(root, f"Image/aligned/{name}_aligned.jpg")
    return root


def make_rafdb_folders(root: Path) -> Path:
    for name in ("train/1/train_1_aligned.jpg", "train/4/train_2_aligned.jpg", "test/7/test_1_aligned.jpg"):
        put(root, f"DATASET/{name}")
    return root


def grey(number: int) -> str:
    """48 x 48 grey values of a row of fer2013.csv."""
    return " ".join(map(str, np.random.default_rng(number).integers(0, 256, (6, 6)).repeat(8, 0).repeat(8, 1).ravel()))


def make_fer2013(root: Path) -> Path:
    usages = ("Training", "Training", "PublicTest", "PrivateTest")
    put_csv(
        root, "fer2013.csv", [["emotion", "pixels", "Usage"], *([label, grey(label), usage] for label, usage in zip((0, 3, 5, 6), usages))]
    )
    return root


def make_fer2013_folders(root: Path) -> Path:
    for name in ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"):
        put(root, f"train/{name}/Training_{name}.jpg")
        put(root, f"test/{name}/PrivateTest_{name}.jpg")
    return root


FERPLUS = ["Usage", "Image name", "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"]


def make_ferplus(root: Path) -> Path:
    usages = ("Training",) * 4 + ("PublicTest", "PrivateTest")
    put_csv(root, "fer2013.csv", [["emotion", "pixels", "Usage"], *([3, grey(number), usage] for number, usage in enumerate(usages))])
    votes = (
        ("fer0000000.png", 1, 0, 0, 0, 8, 0, 0, 1, 0, 0), ("", 0, 0, 0, 0, 0, 0, 0, 0, 0, 10),
        ("fer0000002.png", 5, 0, 0, 5, 0, 0, 0, 0, 0, 0),
        ("fer0000003.png", 1, 0, 0, 0, 0, 0, 2, 0, 7, 0), ("fer0000004.png", 0, 9, 1, 0, 0, 0, 0, 0, 0, 0),
        ("fer0000005.png", 0, 0, 0, 0, 0, 3, 6, 0, 1, 0),
    )  # fmt: skip
    put_csv(root, "fer2013new.csv", [FERPLUS, *([usage, *row] for usage, row in zip(usages, votes))])
    return root


def make_sfew(root: Path) -> Path:
    for split in ("Train", "Val"):
        for name in ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"):
            put(root, f"{split}/{name}/Film_{split}{name}.png")
    put(root, "Test/unknown_0001.png")
    return root


def make_ckplus(root: Path) -> Path:
    for sequence in ("S005/001", "S010/002"):
        for frame in range(1, 4):
            put(root, f"cohn-kanade-images/{sequence}/{sequence.replace('/', '_')}_{frame:08d}.png")
    put(root, "Emotion/S005/001/S005_001_00000003_emotion.txt", "   3.0000000e+00\n")
    (root / "Emotion/S010/002").mkdir(parents=True)  # most sequences have no emotion, and an empty folder
    put(
        root,
        "FACS/S005/001/S005_001_00000003_facs.txt",
        "   9.0000000e+00   4.0000000e+00\n   1.7000000e+01   0.0000000e+00\n   6.4e+01   1.0e+00\n",
    )
    put(root, "FACS/S010/002/S010_002_00000003_facs.txt", "   1.2000000e+01   2.0000000e+00\n")
    return root


def make_ck48(root: Path) -> Path:
    for name in ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise"):
        put(root, f"{name}/S010_004_0000001{len(name)}.png")
    return root


def make_jaffe(root: Path) -> Path:
    for name in ("KA.AN1.39", "KA.DI2.43", "NA.FE1.199", "NA.HA3.204", "NA.NE1.195", "YM.SA1.50", "YM.SU2.60"):
        put(root, f"jaffe/{name}.tiff")
    return root


def make_kdef(root: Path) -> Path:
    for name in ("AF01/AF01ANS", "BF01/BF01HAHL", "AM07/AM07AFFR", "AM07/AM07NES"):
        put(root, f"KDEF/{name}.JPG")
    return root


def make_disfa(root: Path) -> Path:
    for subject in ("SN001", "SN002"):
        for frame in (1, 2, 3):
            put(root, f"Images/{subject}/{frame:05d}.png")
        for number, code in enumerate((1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)):
            text = "".join(f"{frame},{(number + frame) % 6}\n" for frame in (1, 2, 3))
            put(root, f"ActionUnit_Labels/{subject}/{subject}_au{code}.txt", text)
    return root


MAKERS: dict[tuple[str, str], Maker] = {
    ("folder", "class folders"): make_folder,
    ("affectnet", "A"): make_affectnet_a,
    ("affectnet", "B"): make_affectnet_b,
    ("affectnet", "C"): make_affectnet_c,
    ("rafdb", "list"): make_rafdb,
    ("rafdb", "class folders"): make_rafdb_folders,
    ("fer2013", "csv"): make_fer2013,
    ("fer2013", "class folders"): make_fer2013_folders,
    ("ferplus", "csv"): make_ferplus,
    ("sfew", "class folders"): make_sfew,
    ("ckplus", "sequences"): make_ckplus,
    ("ckplus", "CK+48"): make_ck48,
    ("jaffe", "files"): make_jaffe,
    ("kdef", "files"): make_kdef,
    ("disfa", "frames"): make_disfa,
}
"""A miniature tree of every layout; Parquet has tests of its own."""


@pytest.fixture(scope="session")
def makers() -> dict[tuple[str, str], Maker]:
    """What makes the tree of a format and layout in a folder."""
    return MAKERS


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes the miniature tree of a format and layout."""
    return lambda name, layout: MAKERS[name, layout](tmp_path / f"{name} {layout}")


@pytest.fixture
def write() -> Callable[..., Path]:
    """Writes a file below a root, by default an image of the name's format."""
    return put


@pytest.fixture
def write_csv() -> Callable[[Path, str, Iterable[Sequence[object]]], Path]:
    """Writes a table below a root."""
    return put_csv


@pytest.fixture
def draw() -> Callable[..., bytes]:
    """Draws a picture that is like no other."""
    return picture


class Reader:
    """Reads a tree with the reader of its layout."""

    def entries(self, name: str, root: Path, **options: Any) -> list[Entry]:
        """All entries of the layout that lies at `root`."""
        return list(known_format(name).layout_of(root).read(root, **options))

    def items(self, name: str, root: Path, **options: Any) -> list[Item]:
        """The items; there must be no problem."""
        entries = self.entries(name, root, **options)
        assert [entry for entry in entries if isinstance(entry, Problem)] == []
        return [entry for entry in entries if isinstance(entry, Item)]

    def told(self, name: str, root: Path, **options: Any) -> list[tuple[str, str, str, str]]:
        """Name, expression, split and identity of the items."""
        return [(item.name, item.expression, item.split, item.identity) for item in self.items(name, root, **options)]

    def problem(self, name: str, root: Path, **options: Any) -> Problem:
        """The one problem among the entries."""
        (problem,) = [entry for entry in self.entries(name, root, **options) if isinstance(entry, Problem)]
        return problem


@pytest.fixture
def reader() -> Reader:
    """Reads a tree with the reader of its layout."""
    return Reader()
