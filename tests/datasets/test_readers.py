"""Every reader says by name what the files of its layout hold, and tells what is wrong with bad ones."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synfer.datasets.entries import DatasetError, Entry, Item, LeftOut, Problem
from synfer.datasets.label_order import label_order_warnings
from synfer.datasets.names import LabelNames
from synfer.datasets.rafdb import PUBLISHED
from synfer.datasets.registry import FORMATS, known_format
from synfer.images import ImageError
from synfer.vocabulary import EXPRESSIONS

Tree = Callable[[str, str], Path]
Write = Callable[..., Path]


def read(name: str, root: Path, **options: Any) -> list[Entry]:
    """All entries of the layout that lies at `root`."""
    return list(known_format(name).layout_of(root).read(root, **options))


def items(entries: list[Entry]) -> list[Item]:
    """The items; there must be no problem."""
    assert [entry for entry in entries if isinstance(entry, Problem)] == []
    return [entry for entry in entries if isinstance(entry, Item)]


def told(entries: list[Entry]) -> list[tuple[str, str, str, str]]:
    """Name, expression, split and identity of the items."""
    return [(item.name, item.expression, item.split, item.identity) for item in items(entries)]


def only_problem(entries: list[Entry]) -> Problem:
    """The one problem among entries."""
    (problem,) = [entry for entry in entries if isinstance(entry, Problem)]
    return problem


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
def test_labels_splits_and_people_are_those_of_the_layout(tree: Tree, name: str, layout: str) -> None:
    root = tree(name, layout)
    assert known_format(name).layout_of(root).name == layout
    assert told(read(name, root)) == EXPECTED[name, layout]


def test_every_image_of_every_layout_can_be_decoded(tree: Tree, makers: dict[tuple[str, str], Any]) -> None:
    for name, layout in makers:
        for item in items(read(name, tree(name, layout))):
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


def test_affectnet_lists_give_box_valence_and_arousal_and_leave_out_what_is_no_class(tree: Tree) -> None:
    root = tree("affectnet", "A")
    entries = read("affectnet", root)
    first = items(entries)[0]
    assert (first.box, first.valence, first.arousal) == ((4, 8, 16, 16), 0.5, -0.25)
    images = root / "Manually_Annotated_Images"
    left_out = [entry for entry in entries if isinstance(entry, LeftOut)]
    assert left_out == [LeftOut(str(images / "2/c.jpg"), "label non-face"), LeftOut(str(images / "2/d.jpg"), "label none")]


def test_affectnet_arrays_give_valence_and_arousal(tree: Tree) -> None:
    assert {(item.valence, item.arousal) for item in items(read("affectnet", tree("affectnet", "B")))} == {(-0.5, 0.25)}


def test_relabelled_copy_of_affectnet_is_marked(tree: Tree) -> None:
    assert "not official" in known_format("affectnet").layout_of(tree("affectnet", "C")).note


def test_fer2013_pixels_are_those_of_the_row(tree: Tree) -> None:
    root = tree("fer2013", "csv")
    row = (root / "fer2013.csv").read_text().splitlines()[1].split(",")
    pixels = np.array(Image.open(io.BytesIO(items(read("fer2013", root))[0].read())))
    assert pixels.tolist() == np.array(row[1].split(), dtype=int).reshape(48, 48).tolist()


def test_ferplus_keeps_votes_and_says_why_a_row_is_left_out(tree: Tree) -> None:
    entries = read("ferplus", tree("ferplus", "csv"))
    votes = {item.name: dict(zip(EXPRESSIONS, item.votes or (), strict=True)) for item in items(entries)}
    assert {name: count for name, count in votes["fer0000000"].items() if count} == {"neutral": 1, "anger": 8, "contempt": 1}
    assert [entry.why for entry in entries if isinstance(entry, LeftOut)] == ["dropped by FERPlus", "most annotators say unknown"]


def test_ckplus_peaks_carry_facs_and_onsets_are_not_said_to_be_coded(tree: Tree) -> None:
    peak, onset, unlabelled = items(read("ckplus", tree("ckplus", "sequences")))
    assert {code: value for code, value in peak.aus.items() if value} == {"9": 4.0, "17": 3.0}  # 17 was coded as present, without intensity
    assert peak.aus["12"] == 0.0 and "L12" not in peak.aus and "64" not in peak.aus
    assert onset.aus == {}
    assert {code: value for code, value in unlabelled.aus.items() if value} == {"12": 2.0}


def test_ck48_has_its_people_in_the_file_names(tree: Tree) -> None:
    found = items(read("ckplus", tree("ckplus", "CK+48")))
    assert {item.identity for item in found} == {"S010"}
    assert [item.expression for item in found] == ["anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"]


def test_sfew_validation_is_the_test_split_and_its_test_set_has_no_labels(tree: Tree) -> None:
    entries = read("sfew", tree("sfew", "class folders"))
    assert [item.split for item in items(entries)] == ["train"] * 7 + ["test"] * 7
    assert [entry.why for entry in entries if isinstance(entry, LeftOut)] == ["split Test, which has no labels"]


def test_disfa_frames_have_twelve_aus_and_no_expression(tree: Tree) -> None:
    root = tree("disfa", "frames")
    found = items(read("disfa", root))
    assert len(found) == 6 and {item.expression for item in found} == {""} and {item.identity for item in found} == {"SN001", "SN002"}
    assert found[1].aus == {
        "1": 2, "2": 3, "4": 4, "5": 5, "6": 0, "9": 1, "12": 2, "15": 3, "17": 4, "20": 5, "25": 0, "26": 1,
    }  # fmt: skip
    assert [item.name[-5:] for item in items(read("disfa", root, every=2))] == ["1.png", "3.png"] * 2


def test_kdef_angles_can_be_chosen(tree: Tree) -> None:
    root = tree("kdef", "files")
    entries = read("kdef", root, views=("S",))
    assert [(item.name, item.attributes) for item in items(entries)] == [
        ("KDEF/AF01/AF01ANS.JPG", {"sex": "woman"}), ("KDEF/AM07/AM07NES.JPG", {"sex": "man"}),
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="unknown view 'X'; known: S, HL"):
        read("kdef", root, views=("X",))


def test_folders_take_names_and_people_from_the_user(tmp_path: Path, write: Write) -> None:
    for name in ("1/s01_a.png", "2/s02_b.png", "uncertain/s01_c.png", "none/s03_d.png"):
        write(tmp_path, name)
    names = LabelNames(told={"1": "fear", "2": "anger", "uncertain": "?", "none": "-"})
    entries = read("folder", tmp_path, names=names, identity=r"(s\d+)_")
    assert [(item.expression, item.identity) for item in items(entries)] == [("fear", "s01"), ("anger", "s02"), ("", "s01")]
    with pytest.raises(DatasetError, match="is not a regular expression"):
        read("folder", tmp_path, identity="(")


# --- Parquet ----------------------------------------------------------------------------------------------------------------------


def write_parquet(path: Path, class_names: list[str] | None = None, **columns: list[Any]) -> Path:
    table = pa.table(columns)
    if class_names is not None:  # as the datasets library of the hub writes it
        features = {"label": {"names": class_names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def test_parquet_reads_class_names_and_splits_of_file_names(tmp_path: Path, draw: Callable[..., bytes]) -> None:
    images = [{"bytes": draw(number), "path": None} for number in range(3)]
    write_parquet(tmp_path / "data/train-00000-of-00001.parquet", ["angry", "happy"], image=images[:2], label=[1, -1])
    write_parquet(tmp_path / "data/validation-00000-of-00001.parquet", ["angry", "happy"], image=images[2:], label=[0])
    found = read("parquet", tmp_path)
    assert told(found) == [
        ("data/train-00000-of-00001.parquet:0", "happiness", "train", ""), ("data/train-00000-of-00001.parquet:1", "", "train", ""),
        ("data/validation-00000-of-00001.parquet:0", "anger", "val", ""),
    ]  # fmt: skip
    assert [item.read() for item in items(found)] == [image["bytes"] for image in images]


def test_parquet_reads_columns_of_splits_people_and_ids(tmp_path: Path, draw: Callable[..., bytes]) -> None:
    rows = {
        "picture": [draw(0), draw(1)],
        "emotion": ["Sad", "3"],
        "part": ["train", "dev"],
        "person": ["x", None],
        "sample_id": ["a", "b"],
    }
    path = write_parquet(tmp_path / "faces.parquet", **rows)
    options = {"image_column": "picture", "label_column": "emotion", "split_column": "part", "identity_column": "person"}
    assert told(read("parquet", path, names=LabelNames(told={"3": "fear"}), **options)) == [
        ("a", "sadness", "train", "x"), ("b", "fear", "val", ""),
    ]  # fmt: skip
    assert only_problem(read("parquet", path, **options)).what.startswith("unknown class '3'; known: neutral, ")
    with pytest.raises(DatasetError, match=r"no column 'image'; there are: picture, emotion, .*--image-column"):
        read("parquet", path)


def test_parquet_with_numbers_without_names_or_an_unknown_split_is_a_problem(tmp_path: Path, draw: Callable[..., bytes]) -> None:
    path = write_parquet(tmp_path / "numbers.parquet", image=[draw(0)], label=[4])
    assert (
        only_problem(read("parquet", path)).what == "label 4 is a number without a name; say what each means, for example --map 4=neutral"
    )
    path = write_parquet(tmp_path / "splits.parquet", image=[draw(0)], label=["sad"], split=["tset"])
    assert only_problem(read("parquet", path)).what.startswith("unknown split 'tset' (did you mean 'test'?)")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="not a readable Parquet file"):
        read("parquet", tmp_path / "broken.parquet")


# --- bad trees --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layout", "missing", "message"),
    [
        ("affectnet", "A", "training.csv", "no training.csv"),
        ("affectnet", "A", "Manually_Annotated_Images", "none of the folders Manually_Annotated_Images"),
        ("affectnet", "B", "val_set/annotations", "val_set needs the folders images and annotations"),
        ("rafdb", "list", "EmoLabel/list_patition_label.txt", "no EmoLabel/list_patition_label.txt"),
        ("rafdb", "list", "Image", "no Image/aligned"),
        ("ferplus", "csv", "fer2013new.csv", "fer2013new.csv does not exist; it comes from"),
        ("ferplus", "csv", "fer2013.csv", "fer2013.csv does not exist"),
        ("ckplus", "sequences", "Emotion", "no folder Emotion"),
        ("ckplus", "sequences", "FACS", "no folder FACS"),
        ("disfa", "frames", "Images", "no folder Images"),
        ("disfa", "frames", "ActionUnit_Labels/SN002/SN002_au12.txt", "SN002_au12.txt does not exist"),
    ],
)
def test_a_missing_list_or_folder_is_named(tree: Tree, name: str, layout: str, missing: str, message: str) -> None:
    root = tree(name, layout)
    (root / missing).rename(root.parent / "away")
    with pytest.raises(DatasetError, match=message):
        read(name, root)


@pytest.mark.parametrize("name", sorted(set(FORMATS)))
def test_a_tree_of_another_set_is_refused_with_the_layouts_that_are_known(tmp_path: Path, write: Write, name: str) -> None:
    write(tmp_path, "notes.txt", "hello")
    with pytest.raises(DatasetError, match=r"is not laid out as .*; expected there: "):
        read(name, tmp_path)
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        read(name, tmp_path / "nowhere")


def test_an_unknown_format_is_told() -> None:
    with pytest.raises(DatasetError, match=r"unknown format 'rafbd' \(did you mean 'rafdb'\?\); known: folder, "):
        known_format("rafbd")


@pytest.mark.parametrize(
    ("name", "layout", "file", "old", "new", "message"),
    [
        ("affectnet", "A", "training.csv", "1;2,1,", "1;2,11,", "unknown label '11'"),
        ("affectnet", "A", "training.csv", "1/a.jpg,4,", "1/a.jpg,left,", "is no number"),
        ("rafdb", "list", "EmoLabel/list_patition_label.txt", "train_00001.jpg 5", "train_00001.jpg 8", "unknown label '8'; known: 1, 2, "),
        ("rafdb", "list", "EmoLabel/list_patition_label.txt", "train_00001.jpg 5", "tarin_00001.jpg 5", "none of the splits train, test"),
        ("rafdb", "list", "EmoLabel/list_patition_label.txt", "train_00001.jpg 5", "train_00001.jpg", "expected a file and a number"),
        ("fer2013", "csv", "fer2013.csv", "PublicTest", "PubilcTest", "unknown split 'PubilcTest' (did you mean 'PublicTest'?)"),
        ("fer2013", "csv", "fer2013.csv", "\n0,", "\n7,", "unknown label '7'"),
        ("ferplus", "csv", "fer2013new.csv", "fer0000004.png,0,", "fer0000004.png,x,", "a vote is no number"),
        ("ckplus", "sequences", "Emotion/S005/001/S005_001_00000003_emotion.txt", "3.0", "9.0", "unknown label '9.0000000e+00'"),
        ("ckplus", "sequences", "FACS/S005/001/S005_001_00000003_facs.txt", "4.0000000e+00", "A", "is not an AU and its intensity"),
        ("disfa", "frames", "ActionUnit_Labels/SN001/SN001_au1.txt", "3,3\n", "", "frame 3 of SN001 has no intensity of AU 1"),
    ],
)  # fmt: skip
def test_an_unknown_label_or_a_wrong_split_is_a_problem_with_its_place(
    tree: Tree, name: str, layout: str, file: str, old: str, new: str, message: str
) -> None:
    root = tree(name, layout)
    text = (root / file).read_bytes().decode()
    assert old in text
    (root / file).write_bytes(text.replace(old, new, 1).encode())
    problem = only_problem(read(name, root))
    assert message in problem.what and str(root) in problem.where


@pytest.mark.parametrize(
    ("name", "layout", "file", "message"),
    [
        ("folder", "class folders", "train/ecstasy/x.png", "unknown class 'ecstasy'"),
        ("folder", "class folders", "trian/happy/x.png", "unknown split 'trian' (did you mean 'train'?)"),
        ("folder", "class folders", "train/x.png", "lies beside class folders"),
        ("rafdb", "class folders", "DATASET/train/9/x.jpg", "unknown class '9'; known: 1, 2, 3, 4, 5, 6, 7"),
        ("jaffe", "files", "jaffe/KA.XX1.40.tiff", "unknown label 'XX'"),
        ("jaffe", "files", "jaffe/portrait.tiff", "not a name of JAFFE"),
        ("kdef", "files", "KDEF/AF31/AF31V.JPG", "not a name of KDEF"),
        ("kdef", "files", "KDEF/AF31/AF31XXS.JPG", "unknown label 'XX'"),
        ("ckplus", "CK+48", "happy/frame1.png", "no subject"),
        ("disfa", "frames", "Images/SN001/first.png", "the name of a frame is its number"),
        ("affectnet", "B", "train_set/images/99.jpg", "its labels cannot be read"),
    ],
)  # fmt: skip
def test_a_file_that_says_nothing_is_a_problem_with_its_path(
    tree: Tree, write: Write, name: str, layout: str, file: str, message: str
) -> None:
    root = tree(name, layout)
    path = write(root, file)
    problem = only_problem(read(name, root))
    assert message in problem.what and problem.where == str(path)


def test_ferplus_rows_that_belong_to_other_images_are_refused(tree: Tree, write: Write) -> None:
    root = tree("ferplus", "csv")
    lines = (root / "fer2013new.csv").read_text().splitlines()
    write(root, "fer2013new.csv", "\n".join([lines[0], *lines[2:]]))
    with pytest.raises(DatasetError, match=r"row 3 is of PublicTest, that of fer2013\.csv of Training; they must be of one set"):
        read("ferplus", root)
    write(root, "fer2013new.csv", "\n".join(lines[:-1]))
    with pytest.raises(DatasetError, match=r"fer2013new\.csv ends at row 5"):
        read("ferplus", root)


def test_a_row_of_fer2013_with_too_few_pixels_is_no_image(tree: Tree) -> None:
    root = tree("fer2013", "csv")
    text = (root / "fer2013.csv").read_text().splitlines()
    (root / "fer2013.csv").write_text("\n".join([text[0], "0,1 2 3,Training", "0,1 2 300,Training"]))
    first, second = items(read("fer2013", root))
    with pytest.raises(ImageError, match="row 0: 3 grey values, not 48 x 48"):
        first.read()
    with pytest.raises(ImageError, match="row 1: "):
        second.read()


# --- the order of the labels ------------------------------------------------------------------------------------------------------


def test_published_counts_and_subsets_of_them_pass() -> None:
    assert label_order_warnings(PUBLISHED, PUBLISHED) == []
    assert label_order_warnings({name: count // 10 for name, count in PUBLISHED.items()}, PUBLISHED) == []
    assert label_order_warnings({"fear": 5}, PUBLISHED) == []  # too few to say anything


def test_shifted_classes_are_told_with_the_order_that_fits() -> None:
    names = list(PUBLISHED)
    shifted = {name: PUBLISHED[names[(number + 1) % len(names)]] for number, name in enumerate(names)}
    (warning,) = label_order_warnings(shifted, PUBLISHED)
    assert "are the labels in another order?" in warning
    assert "what is read as disgust has the share of happiness" in warning


def test_a_class_that_is_wildly_off_is_told_with_both_shares() -> None:
    (warning,) = label_order_warnings(PUBLISHED | {"happiness": 0}, PUBLISHED)
    assert warning == "happiness has 0% of the images, 39% in the published set"
    assert math.isclose(PUBLISHED["happiness"] / sum(PUBLISHED.values()), 0.39, abs_tol=0.005)
