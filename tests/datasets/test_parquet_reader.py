"""Parquet in the convention of the hub: names and splits are those of columns, of a ClassLabel, or of the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.imports.account import SKIPPED
from components.imports.dataset import import_dataset
from synfer.datasets.entries import DatasetError
from synfer.datasets.names import LabelNames
from synfer.manifest import read_manifest

Tree = Callable[[str, str], Path]
Write = Callable[..., Path]


def write_parquet(path: Path, class_names: list[str] | None = None, **columns: list[Any]) -> Path:
    table = pa.table(columns)
    if class_names is not None:  # as the datasets library of the hub writes it
        features = {"label": {"names": class_names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def test_parquet_reads_class_names_and_splits_of_file_names(reader: Any, tmp_path: Path, draw: Callable[..., bytes]) -> None:
    images = [{"bytes": draw(number), "path": None} for number in range(3)]
    write_parquet(tmp_path / "data/train-00000-of-00001.parquet", ["angry", "happy"], image=images[:2], label=[1, -1])
    write_parquet(tmp_path / "data/validation-00000-of-00001.parquet", ["angry", "happy"], image=images[2:], label=[0])
    assert reader.told("parquet", tmp_path) == [
        ("data/train-00000-of-00001.parquet:0", "happiness", "train", ""), ("data/train-00000-of-00001.parquet:1", "", "train", ""),
        ("data/validation-00000-of-00001.parquet:0", "anger", "val", ""),
    ]  # fmt: skip
    assert [item.read() for item in reader.items("parquet", tmp_path)] == [image["bytes"] for image in images]


def test_parquet_reads_columns_of_splits_people_and_ids(reader: Any, tmp_path: Path, draw: Callable[..., bytes]) -> None:
    rows = {
        "picture": [draw(0), draw(1)],
        "emotion": ["Sad", "3"],
        "part": ["train", "dev"],
        "person": ["x", None],
        "sample_id": ["a", "b"],
    }
    path = write_parquet(tmp_path / "faces.parquet", **rows)
    options = {"image_column": "picture", "label_column": "emotion", "split_column": "part", "identity_column": "person"}
    assert reader.told("parquet", path, names=LabelNames(told={"3": "fear"}), **options) == [
        ("a", "sadness", "train", "x"), ("b", "fear", "val", ""),
    ]  # fmt: skip
    assert reader.problem("parquet", path, **options).what.startswith("unknown class '3'; known: neutral, ")
    with pytest.raises(DatasetError, match=r"no column 'image'; there are: picture, emotion, .*--image-column"):
        reader.entries("parquet", path)


def test_parquet_with_numbers_without_names_or_an_unknown_split_is_a_problem(
    reader: Any, tmp_path: Path, draw: Callable[..., bytes]
) -> None:
    path = write_parquet(tmp_path / "numbers.parquet", image=[draw(0)], label=[4])
    assert reader.problem("parquet", path).what == "label 4 is a number without a name; say what each means, for example --map 4=neutral"
    path = write_parquet(tmp_path / "splits.parquet", image=[draw(0)], label=["sad"], split=["tset"])
    assert reader.problem("parquet", path).what.startswith("unknown split 'tset' (did you mean 'test'?)")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="not a readable Parquet file"):
        reader.entries("parquet", tmp_path / "broken.parquet")


def test_a_truncated_image_of_a_row_is_told_with_its_row(tmp_path: Path, draw: Callable[..., bytes]) -> None:
    whole = draw(0, kind="JPEG")
    path = write_parquet(tmp_path / "faces.parquet", image=[whole, whole[: len(whole) // 2], None], label=["sad"] * 3)
    with pytest.raises(DatasetError, match=r"2 images cannot be taken: .*faces\.parquet, row 1: not a readable image.*row 2: no image"):
        import_dataset("parquet", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    import_dataset("parquet", path, tmp_path / "out", skip_bad=2)
    assert len(read_manifest(tmp_path / "out")) == 1 and len(pd.read_csv(tmp_path / "out" / SKIPPED)) == 2
