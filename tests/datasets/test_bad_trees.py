"""What is wrong with a tree is told with its place: missing lists, unknown labels and splits, files that say nothing, broken images."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.imports.account import SKIPPED
from components.imports.dataset import import_dataset
from synfer.datasets.entries import DatasetError
from synfer.datasets.registry import FORMATS, known_format
from synfer.images import ImageError
from synfer.manifest import read_manifest

Tree = Callable[[str, str], Path]
Write = Callable[..., Path]


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
def test_a_missing_list_or_folder_is_named(reader: Any, tree: Tree, name: str, layout: str, missing: str, message: str) -> None:
    root = tree(name, layout)
    (root / missing).rename(root.parent / "away")
    with pytest.raises(DatasetError, match=message):
        reader.entries(name, root)


@pytest.mark.parametrize("name", sorted(set(FORMATS)))
def test_a_tree_of_another_set_is_refused_with_the_layouts_that_are_known(reader: Any, tmp_path: Path, write: Write, name: str) -> None:
    write(tmp_path, "notes.txt", "hello")
    with pytest.raises(DatasetError, match=r"is not laid out as .*; expected there: "):
        reader.entries(name, tmp_path)
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        reader.entries(name, tmp_path / "nowhere")


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
        ("ckplus", "sequences", "FACS/S005/001/S005_001_00000003_facs.txt", "4.0000000e+00", "Z", "is not an AU and its intensity"),
        ("disfa", "frames", "ActionUnit_Labels/SN001/SN001_au1.txt", "3,3\n", "", "frame 3 of SN001 has no intensity of AU 1"),
    ],
)  # fmt: skip
def test_an_unknown_label_or_a_wrong_split_is_a_problem_with_its_place(
    reader: Any, tree: Tree, name: str, layout: str, file: str, old: str, new: str, message: str
) -> None:
    root = tree(name, layout)
    text = (root / file).read_bytes().decode()
    assert old in text
    (root / file).write_bytes(text.replace(old, new, 1).encode())
    problem = reader.problem(name, root)
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
        ("affectnet", "C", "none/image1.jpg", "unknown class 'none'"),
        ("rafdb", "class folders", "DATASET/tset/1/x.jpg", "unknown split 'tset' (did you mean 'test'?)"),
        ("fer2013", "class folders", "train/anrgy/x.jpg", "unknown class 'anrgy'"),
        ("fer2013", "class folders", "tset/angry/x.jpg", "unknown split 'tset' (did you mean 'test'?)"),
        ("sfew", "class folders", "Train/Bored/x.png", "unknown class 'Bored'"),
        ("sfew", "class folders", "Vla/Angry/x.png", "unknown split 'Vla'; known: train, "),
        ("ckplus", "CK+48", "bored/S010_004_00000017.png", "unknown class 'bored'"),
        ("kdef", "files", "KDEF/AF31/AF31ANX.JPG", "unknown view 'X'"),
    ],
)  # fmt: skip
def test_a_file_that_says_nothing_is_a_problem_with_its_path(
    reader: Any, tree: Tree, write: Write, name: str, layout: str, file: str, message: str
) -> None:
    root = tree(name, layout)
    path = write(root, file)
    problem = reader.problem(name, root)
    assert message in problem.what and problem.where == str(path)


def test_ferplus_rows_that_belong_to_other_images_are_refused(reader: Any, tree: Tree, write: Write) -> None:
    root = tree("ferplus", "csv")
    lines = (root / "fer2013new.csv").read_text().splitlines()
    write(root, "fer2013new.csv", "\n".join([lines[0], *lines[2:]]))
    with pytest.raises(DatasetError, match=r"row 3 is of PublicTest, that of fer2013\.csv of Training; they must be of one set"):
        reader.entries("ferplus", root)
    write(root, "fer2013new.csv", "\n".join(lines[:-1]))
    with pytest.raises(DatasetError, match=r"fer2013new\.csv ends at row 5"):
        reader.entries("ferplus", root)


def test_a_row_of_fer2013_with_too_few_pixels_is_no_image(reader: Any, tree: Tree) -> None:
    root = tree("fer2013", "csv")
    text = (root / "fer2013.csv").read_text().splitlines()
    (root / "fer2013.csv").write_text("\n".join([text[0], "0,1 2 3,Training", "0,1 2 300,Training"]))
    first, second = reader.items("fer2013", root)
    with pytest.raises(ImageError, match="row 0: 3 grey values, not 48 x 48"):
        first.read()
    with pytest.raises(ImageError, match="row 1: "):
        second.read()


def test_a_column_that_is_missing_is_named_with_those_that_are_there(reader: Any, tree: Tree, write: Write) -> None:
    root = tree("ferplus", "csv")
    for name, column in (("fer2013new.csv", "contempt"), ("fer2013.csv", "pixels")):
        write(root, name, (root / name).read_text().replace(column, "other", 1))
        with pytest.raises(DatasetError, match=rf"{name} has no column '{column}'; there are: "):
            reader.entries("ferplus", root)


def test_a_split_that_both_lists_of_ferplus_misspell_is_a_problem(reader: Any, tree: Tree, write: Write) -> None:
    root = tree("ferplus", "csv")
    for name in ("fer2013new.csv", "fer2013.csv"):
        write(root, name, (root / name).read_text().replace("PublicTest", "PubilcTest"))
    assert "unknown split 'PubilcTest' (did you mean 'PublicTest'?)" in reader.problem("ferplus", root).what


def test_an_unknown_label_of_an_array_is_a_problem_with_its_file(reader: Any, tree: Tree) -> None:
    root = tree("affectnet", "B")
    np.save(root / "train_set/annotations/17_exp.npy", np.array("12"))
    problem = reader.problem("affectnet", root)
    assert "unknown label '12'" in problem.what and problem.where.endswith("17_exp.npy")


@pytest.mark.parametrize("line", ["2,6", "2,-1", "2,high", "two,1"])
def test_an_intensity_of_disfa_outside_the_scale_is_refused_with_its_table(reader: Any, tree: Tree, write: Write, line: str) -> None:
    root = tree("disfa", "frames")
    write(root, "ActionUnit_Labels/SN001/SN001_au4.txt", f"1,0\n{line}\n3,0\n")
    with pytest.raises(DatasetError, match=r"SN001_au4\.txt: .*(lies outside 0\.\.5|is not a frame and its intensity)"):
        reader.entries("disfa", root)


# --- images -----------------------------------------------------------------------------------------------------------------------


def taken_files(reader: Any, name: str, root: Path) -> list[Path]:
    """Image files that are taken, none for sets whose pixels stand in a table."""
    return [Path(item.where) for item in reader.items(name, root) if Path(item.where).is_file()]


def test_a_truncated_image_of_any_layout_is_told_with_its_path_and_can_be_passed_over(
    reader: Any, makers: dict[tuple[str, str], Any], tmp_path: Path
) -> None:
    in_tables = set()
    for name, layout in makers:
        root = makers[name, layout](tmp_path / f"{name} {layout}")
        files = taken_files(reader, name, root)
        if not files:
            in_tables.add(name)
            continue
        files[-1].write_bytes(files[-1].read_bytes()[: files[-1].stat().st_size // 2])
        out = tmp_path / "data" / f"{name}-{layout}"
        with pytest.raises(DatasetError, match=rf"1 images cannot be taken: {re.escape(str(files[-1]))}: not a readable image"):
            import_dataset(name, root, out)
        assert not out.exists()
        import_dataset(name, root, out, skip_bad=1)
        assert pd.read_csv(out / SKIPPED)["where"].tolist() == [str(files[-1])]
        assert len(read_manifest(out)) == len(files) - 1
    assert in_tables == {"fer2013", "ferplus"}


@pytest.mark.parametrize(("name", "layout"), [("affectnet", "A"), ("rafdb", "list")])
def test_an_image_of_a_list_that_is_missing_is_told_with_its_path(reader: Any, tree: Tree, tmp_path: Path, name: str, layout: str) -> None:
    root = tree(name, layout)
    lost = taken_files(reader, name, root)[0]
    lost.unlink()
    with pytest.raises(DatasetError, match=rf"1 images cannot be taken: {re.escape(str(lost))}: the image does not exist"):
        import_dataset(name, root, tmp_path / "out")
