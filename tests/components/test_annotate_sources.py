"""Whatever faces lie in: every kind of source gives the same rows twice, and a label that nobody understands is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.annotate.sources import Source, open_source
from synfer.datasets.entries import DatasetError
from synfer.datasets.names import LabelError, LabelNames, parse_map
from synfer.images import ImageError, encode_png
from synfer.manifest import read_manifest, write_manifest
from synfer.vocabulary import DEFAULT_EXPRESSIONS

NAMES = LabelNames(DEFAULT_EXPRESSIONS)


def face(shade: int) -> bytes:
    return encode_png(np.full((8, 8, 3), shade, np.uint8))


def write_faces(root: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(face(shade))
    return root


def write_parquet(path: Path, images: Sequence[Any], class_names: Sequence[str] | None = None, **columns: Sequence[Any]) -> Path:
    table = pa.table({"image": pa.array(images), **{name: pa.array(values) for name, values in columns.items()}})
    if class_names is not None:  # as the datasets library of the hub writes it
        features = {"image": {"_type": "Image"}, "label": {"names": list(class_names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return path


def labels(source: Source) -> dict[str, str]:
    """Labels by id, which `rows` and `items` must agree on, on every call."""
    rows = [(row.sample_id, row.given) for row in source.rows()]
    assert [(item.sample_id, item.given) for item in source.items()] == rows == [(row.sample_id, row.given) for row in source.rows()]
    return dict(rows)


def test_class_folders_are_read_by_the_names_that_data_sets_use(tmp_path: Path) -> None:
    write_faces(tmp_path, "happy/b.png", "happy/a.JPG", "Angry/c.png", "3_sad/deeper/d.webp")
    (tmp_path / "happy" / ".DS_Store").write_bytes(b"")
    (tmp_path / "readme.txt").write_text("hello")
    source = open_source(tmp_path, NAMES)
    expected = {"3_sad/deeper/d.webp": "sadness", "Angry/c.png": "anger", "happy/a.JPG": "happiness", "happy/b.png": "happiness"}
    assert labels(source) == expected
    assert source.ignored == 1
    assert {item.sample_id: int(item.pixels()[0, 0, 0]) for item in source.items()} == {
        "happy/b.png": 0, "happy/a.JPG": 1, "Angry/c.png": 2, "3_sad/deeper/d.webp": 3,
    }  # fmt: skip


def test_class_folders_may_lie_in_splits(tmp_path: Path) -> None:
    write_faces(tmp_path, "train/happy/a.png", "test/fear/a.png")
    assert labels(open_source(tmp_path, NAMES)) == {"test/fear/a.png": "fear", "train/happy/a.png": "happiness"}


def test_an_unknown_class_folder_is_named_with_the_known_ones(tmp_path: Path) -> None:
    write_faces(tmp_path, "happy/a.png", "ecstasy/a.png")
    with pytest.raises(LabelError, match=r"ecstasy/a\.png: unknown class 'ecstasy'; known: neutral, happiness, .*anger; .*--map"):
        labels(open_source(tmp_path, NAMES))


def test_a_class_that_the_members_cannot_tell_is_refused_unless_it_is_said_what_to_do(tmp_path: Path) -> None:
    write_faces(tmp_path, "happy/a.png", "contempt/a.png", "uncertain/a.png", "1/a.png")
    with pytest.raises(LabelError, match=r"cannot tell 'contempt', only neutral, .*--map contempt=-"):
        labels(open_source(tmp_path, LabelNames(DEFAULT_EXPRESSIONS, {"1": "surprise"})))
    told = parse_map(["contempt=-,uncertain=?", "1=surprise"])
    found = labels(open_source(tmp_path, LabelNames(DEFAULT_EXPRESSIONS, told)))
    assert found == {"1/a.png": "surprise", "happy/a.png": "happiness", "uncertain/a.png": ""}


@pytest.mark.parametrize(("text", "told"), [("1", "cannot read '1' as NAME=EXPRESSION"), ("1=joyy", "unknown expression 'joyy'")])
def test_a_wrong_map_is_told(text: str, told: str) -> None:
    with pytest.raises(LabelError, match=told):
        parse_map([text])


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    assert labels(open_source(write_faces(tmp_path, "b.png", "a.png"), NAMES)) == {"a.png": "", "b.png": ""}


def test_images_beside_class_folders_are_refused_and_labels_can_be_passed_over(tmp_path: Path) -> None:
    write_faces(tmp_path, "happy/a.png", "b.png")
    with pytest.raises(LabelError, match=r"b\.png: lies beside class folders"):
        labels(open_source(tmp_path, NAMES))
    assert labels(open_source(tmp_path, NAMES, unlabelled=True)) == {"b.png": "", "happy/a.png": ""}


def test_parquet_of_the_hub_has_class_names_in_its_metadata(tmp_path: Path) -> None:
    images = [{"bytes": face(shade), "path": None} for shade in range(5)]
    names = ["angry", "happy", "surprise"]
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", images[:3], names, label=[2, 0, -1])
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", images[3:], names, label=[1, None])
    source = open_source(tmp_path, NAMES)
    assert list(labels(source).values()) == ["surprise", "anger", "", "happiness", ""]
    assert list(labels(source))[3] == "data/train-00001-of-00002.parquet:0"
    assert [int(item.pixels()[0, 0, 0]) for item in source.items()] == [0, 1, 2, 3, 4]


def test_parquet_may_name_its_labels_ids_and_columns_itself(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [face(0), face(1), face(2)], emotion=["Happy", "", "sad"], sample_id=["x", "y", "z"])
    source = open_source(path, NAMES, label_column="emotion")
    assert labels(source) == {"x": "happiness", "y": "", "z": "sadness"}
    assert [item.pixels().shape for item in source.items()] == [(8, 8, 3)] * 3
    with pytest.raises(DatasetError, match=r"no column 'label'; there are: image, emotion, sample_id; .*--label-column"):
        open_source(path, NAMES)
    with pytest.raises(DatasetError, match=r"no column 'picture'; .*--image-column"):
        open_source(path, NAMES, image_column="picture")
    with pytest.raises(DatasetError, match=r"column 'sample_id' is string; images are bytes"):
        open_source(path, NAMES, image_column="sample_id", unlabelled=True)
    twice = write_parquet(tmp_path / "b.parquet", [face(0), face(1)], label=["sad", "sad"], sample_id=["x", "x"])
    with pytest.raises(DatasetError, match="sample_id 'x' occurs more than once"):
        labels(open_source(twice, NAMES))


def test_parquet_without_labels_and_with_images_beside_it(tmp_path: Path) -> None:
    write_faces(tmp_path / "elsewhere", "x.png")
    images = [{"bytes": None, "path": "elsewhere/x.png"}, {"bytes": None, "path": "elsewhere/y.png"}, {"bytes": None, "path": None}]
    path = write_parquet(tmp_path / "a.parquet", images * 50)
    source = open_source(path, NAMES, unlabelled=True)
    assert len(labels(source)) == 150
    there, absent, nothing, *_ = source.items()
    assert there.pixels().shape == (8, 8, 3)
    with pytest.raises(ImageError, match=r"a\.parquet, row 1: .*y\.png"):
        absent.pixels()
    with pytest.raises(ImageError, match=r"a\.parquet, row 2: no image"):
        nothing.pixels()


def test_numbers_without_names_are_told_and_may_be_mapped(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [face(0), face(1)], label=[1, 2])
    with pytest.raises(LabelError, match=r"row 0: label 1 is a number without a name; .*--map 1="):
        labels(open_source(path, NAMES))
    told = LabelNames(DEFAULT_EXPRESSIONS, parse_map(["1=fear,2=disgust"]))
    assert list(labels(open_source(path, told)).values()) == ["fear", "disgust"]


def test_a_dataset_folder_of_this_project(generated: Path, tmp_path: Path) -> None:
    frame = read_manifest(generated)
    assert labels(open_source(generated, NAMES)) == dict(zip(frame["sample_id"], frame["expression"], strict=True))
    for shard in generated.glob("images-*.parquet"):
        (tmp_path / shard.name).symlink_to(shard)
    write_manifest(frame.head(20).assign(expression=["", *frame["expression"][1:20]]), tmp_path)
    found = labels(open_source(tmp_path, NAMES))
    assert len(found) == 20 and found["syn-0000"] == ""
    write_manifest(frame.replace({"sample_id": {"syn-0003": "lost"}}), tmp_path)
    with pytest.raises(ImageError, match="has no image for sample lost"):
        open_source(tmp_path, NAMES)


@pytest.mark.parametrize("content", [{}, {"notes.txt": b"x"}], ids=["empty", "no image"])
def test_a_source_without_images_is_refused(tmp_path: Path, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match="holds no image"):
        open_source(tmp_path, NAMES)
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        open_source(tmp_path / "nowhere", NAMES)


def test_a_changed_file_changes_the_digest(tmp_path: Path) -> None:
    source = open_source(write_faces(tmp_path, "happy/a.png", "sad/b.png"), NAMES)
    before = source.digest()
    assert source.digest() == before
    (tmp_path / "sad" / "b.png").write_bytes(face(200) + b"more")
    assert source.digest() != before
