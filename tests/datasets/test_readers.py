"""Every reader says by name what the files of its layout hold, and tells what is wrong with bad ones."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synfer.datasets.entries import DatasetError, Item, LeftOut
from synfer.datasets.names import LabelNames
from synfer.datasets.registry import FORMATS, known_format
from synfer.vocabulary import EXPRESSIONS

Tree = Callable[[str, str], Path]
Write = Callable[..., Path]


EXPECTED: dict[tuple[str, str], list[tuple[str, str, str, str]]] = {
    ("folder", "class folders"): [
        ("test/3_sad/d.png", "sadness", "test", ""), ("train/happy/a.png", "happiness", "train", ""),
        ("train/happy/b.jpg", "happiness", "train", ""), ("val/Angry/c.png", "anger", "val", ""),
    ],
    ("affectnet", "A"): [
        ("1/a.jpg", "happiness", "train", ""), ("1/b.jpg", "contempt", "train", ""), ("3/e.jpg", "fear", "test", ""),
    ],
    ("affectnet", "B"): [
        ("train_set/images/0.jpg", "anger", "train", ""), ("train_set/images/17.jpg", "sadness", "train", ""),
        ("val_set/images/5.jpg", "neutral", "test", ""),
    ],
    ("affectnet", "C"): [
        ("anger/image0000000.jpg", "anger", "", ""), ("contempt/image0000001.jpg", "contempt", "", ""),
        ("disgust/image0000002.jpg", "disgust", "", ""), ("fear/image0000003.jpg", "fear", "", ""),
        ("happy/image0000004.jpg", "happiness", "", ""), ("neutral/image0000005.jpg", "neutral", "", ""),
        ("sad/image0000006.jpg", "sadness", "", ""), ("surprise/image0000007.jpg", "surprise", "", ""),
    ],
    ("rafdb", "list"): [
        ("train_00001.jpg", "sadness", "train", ""), ("train_00002.jpg", "neutral", "train", ""), ("test_0001.jpg", "surprise", "test", ""),
    ],
    ("rafdb", "class folders"): [
        ("test/7/test_1_aligned.jpg", "neutral", "test", ""), ("train/1/train_1_aligned.jpg", "surprise", "train", ""),
        ("train/4/train_2_aligned.jpg", "happiness", "train", ""),
    ],
    ("fer2013", "csv"): [
        ("fer0000000", "anger", "train", ""), ("fer0000001", "happiness", "train", ""), ("fer0000002", "surprise", "val", ""),
        ("fer0000003", "neutral", "test", ""),
    ],
    ("ferplus", "csv"): [
        ("fer0000000", "anger", "train", ""), ("fer0000002", "", "train", ""), ("fer0000004", "happiness", "val", ""),
        ("fer0000005", "fear", "test", ""),
    ],
    ("ckplus", "sequences"): [
        ("cohn-kanade-images/S005/001/S005_001_00000003.png", "disgust", "", "S005"),
        ("cohn-kanade-images/S005/001/S005_001_00000001.png", "neutral", "", "S005"),
        ("cohn-kanade-images/S010/002/S010_002_00000003.png", "", "", "S010"),
    ],
    ("jaffe", "files"): [
        ("jaffe/KA.AN1.39.tiff", "anger", "", "KA"), ("jaffe/KA.DI2.43.tiff", "disgust", "", "KA"),
        ("jaffe/NA.FE1.199.tiff", "fear", "", "NA"),
        ("jaffe/NA.HA3.204.tiff", "happiness", "", "NA"), ("jaffe/NA.NE1.195.tiff", "neutral", "", "NA"),
        ("jaffe/YM.SA1.50.tiff", "sadness", "", "YM"), ("jaffe/YM.SU2.60.tiff", "surprise", "", "YM"),
    ],
    ("kdef", "files"): [
        ("KDEF/AF01/AF01ANS.JPG", "anger", "", "F01"), ("KDEF/AM07/AM07AFFR.JPG", "fear", "", "M07"),
        ("KDEF/AM07/AM07NES.JPG", "neutral", "", "M07"), ("KDEF/BF01/BF01HAHL.JPG", "happiness", "", "F01"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "layout"), EXPECTED, ids=" ".join)
def test_labels_splits_and_people_are_those_of_the_layout(reader: Any, tree: Tree, name: str, layout: str) -> None:
    root = tree(name, layout)
    assert known_format(name).layout_of(root).name == layout
    assert reader.told(name, root) == EXPECTED[name, layout]


def test_every_image_of_every_layout_can_be_decoded(reader: Any, tree: Tree, makers: dict[tuple[str, str], Any]) -> None:
    for name, layout in makers:
        for item in reader.items(name, tree(name, layout)):
            assert Image.open(io.BytesIO(item.read())).convert("RGB").size[0] in (24, 48), item.where


def test_every_layout_has_a_tree(makers: dict[tuple[str, str], Any]) -> None:
    known = {(name, layout.name) for name, form in FORMATS.items() for layout in form.layouts}
    assert known - set(makers) == {("parquet", "parquet")}


def test_every_format_is_in_the_document_and_in_the_help(root: Path) -> None:
    document = (root / "docs" / "datasets.md").read_text(encoding="utf-8")
    command = (root / "flows" / "commands" / "import_dataset.py").read_text(encoding="utf-8")
    for name, form in FORMATS.items():
        assert f"\n## {name}\n" in document or f"\n**{name}.**" in document
        assert form.source in document or not form.source.startswith("http")
        assert name in re.split(r"metavar=\"FORMAT\"", command)[1].split("see docs")[0]


# --- what single sets hold beside labels ------------------------------------------------------------------------------------------


def test_affectnet_lists_give_box_valence_and_arousal_and_leave_out_what_is_no_class(reader: Any, tree: Tree) -> None:
    root = tree("affectnet", "A")
    entries = reader.entries("affectnet", root)
    first = next(entry for entry in entries if isinstance(entry, Item))
    assert (first.box, first.valence, first.arousal) == ((4, 8, 16, 16), 0.5, -0.25)
    images = root / "Manually_Annotated_Images"
    left_out = [entry for entry in entries if isinstance(entry, LeftOut)]
    assert left_out == [LeftOut(str(images / "2/c.jpg"), "label non-face"), LeftOut(str(images / "2/d.jpg"), "label none")]


def test_affectnet_arrays_give_valence_and_arousal(reader: Any, tree: Tree) -> None:
    assert {(item.valence, item.arousal) for item in reader.items("affectnet", tree("affectnet", "B"))} == {(-0.5, 0.25)}


def test_relabelled_copy_of_affectnet_is_marked(tree: Tree) -> None:
    assert "not official" in known_format("affectnet").layout_of(tree("affectnet", "C")).note


def test_fer2013_pixels_are_those_of_the_row(reader: Any, tree: Tree) -> None:
    root = tree("fer2013", "csv")
    row = (root / "fer2013.csv").read_text().splitlines()[1].split(",")
    pixels = np.array(Image.open(io.BytesIO(reader.items("fer2013", root)[0].read())))
    assert pixels.tolist() == np.array(row[1].split(), dtype=int).reshape(48, 48).tolist()


def test_ferplus_keeps_votes_and_says_why_a_row_is_left_out(reader: Any, tree: Tree) -> None:
    entries = reader.entries("ferplus", tree("ferplus", "csv"))
    votes = {
        item.name: dict(zip(EXPRESSIONS, item.votes or (), strict=True)) for item in [entry for entry in entries if isinstance(entry, Item)]
    }
    assert {name: count for name, count in votes["fer0000000"].items() if count} == {"neutral": 1, "anger": 8, "contempt": 1}
    assert [entry.why for entry in entries if isinstance(entry, LeftOut)] == ["dropped by FERPlus", "most annotators say unknown"]


def test_sfew_validation_is_the_test_split_and_its_test_set_has_no_labels(reader: Any, tree: Tree) -> None:
    entries = reader.entries("sfew", tree("sfew", "class folders"))
    assert [item.split for item in [entry for entry in entries if isinstance(entry, Item)]] == ["train"] * 7 + ["test"] * 7
    assert [entry.why for entry in entries if isinstance(entry, LeftOut)] == ["split Test, which has no labels"]


def test_disfa_frames_have_twelve_aus_and_no_expression(reader: Any, tree: Tree) -> None:
    root = tree("disfa", "frames")
    found = reader.items("disfa", root)
    assert len(found) == 6 and {item.expression for item in found} == {""} and {item.identity for item in found} == {"SN001", "SN002"}
    assert found[1].aus == {
        "1": 2, "2": 3, "4": 4, "5": 5, "6": 0, "9": 1, "12": 2, "15": 3, "17": 4, "20": 5, "25": 0, "26": 1,
    }  # fmt: skip
    assert [item.name[-5:] for item in reader.items("disfa", root, every=2)] == ["1.png", "3.png"] * 2


def test_kdef_angles_can_be_chosen(reader: Any, tree: Tree) -> None:
    root = tree("kdef", "files")
    entries = reader.entries("kdef", root, views=("S",))
    assert [(item.name, item.attributes) for item in [entry for entry in entries if isinstance(entry, Item)]] == [
        ("KDEF/AF01/AF01ANS.JPG", {"sex": "woman"}), ("KDEF/AM07/AM07NES.JPG", {"sex": "man"}),
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="unknown view 'X'; known: S, HL"):
        reader.entries("kdef", root, views=("X",))


def test_folders_take_names_and_people_from_the_user(reader: Any, tmp_path: Path, write: Write) -> None:
    for name in ("1/s01_a.png", "2/s02_b.png", "uncertain/s01_c.png", "none/s03_d.png"):
        write(tmp_path, name)
    names = LabelNames(told={"1": "fear", "2": "anger", "uncertain": "?", "none": "-"})
    entries = reader.entries("folder", tmp_path, names=names, identity=r"(s\d+)_")
    assert [(item.expression, item.identity) for item in [entry for entry in entries if isinstance(entry, Item)]] == [
        ("fear", "s01"),
        ("anger", "s02"),
        ("", "s01"),
    ]
    with pytest.raises(DatasetError, match="is not a regular expression"):
        reader.entries("folder", tmp_path, identity="(")
