"""Parquet in the convention of the Hugging Face hub: images as bytes, labels as names or as numbers of a ClassLabel, perhaps a split.

Licence and origin are those of the images. Numbers are read by the names that the file's own ClassLabel gives them; a number without a name
is a problem unless `names` says what it means. Where no column names the split, the file does (`train-00000-of-00002.parquet`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synfer.datasets.entries import DatasetError, Entry, Format, Item, Layout, LeftOut, Problem
from synfer.datasets.files import SPLITS, name_of, walk
from synfer.datasets.names import LEFT_OUT, UNLABELLED, LabelNames
from synfer.images import ImageError
from synfer.vocabulary import unknown

BATCH = 64  # rows that are held at once
SAMPLE_ID = "sample_id"


def read(
    root: Path,
    *,
    names: LabelNames | None = None,
    image_column: str = "image",
    label_column: str | None = "label",
    split_column: str = "split",
    identity_column: str = "identity",
    pixels: bool = True,
) -> Iterator[Entry]:
    """Items of one file or of all files below a folder; without the split or the identity column these stay unknown.

    The name of a row is its `sample_id` where there is such a column, else file and number. `label_column` None looks at no label;
    without `pixels` no image is read, and none can be. Raises DatasetError if a file cannot be read or has no image or label column.
    """
    names = names or LabelNames()
    wanted = {SAMPLE_ID: SAMPLE_ID, "image": image_column, "label": label_column, "split": split_column, "identity": identity_column}
    base = root.parent if root.is_file() else root
    for file in files(root):
        check_columns(file, image_column, label_column)
        name, from_name = name_of(file, base), file_split(file, base)
        for batch, first in batches(file, [column for role, column in wanted.items() if pixels or role != "image"]):
            class_names = {role: class_label_names(batch.schema, wanted[role] or "") for role in ("label", "split")}
            columns = {
                role: batch.column(column).to_pylist()
                for role, column in wanted.items()
                if role != "image" and column in batch.schema.names
            }
            for row in range(len(batch)):
                of_row = {SAMPLE_ID: f"{name}:{first + row}", "label": None, "split": from_name}
                of_row |= {role: values[row] for role, values in columns.items()}
                where = f"{file}, row {first + row}"
                image = batch.column(image_column)[row] if pixels else pa.NA
                yield _entry(of_row, class_names, names, image_reader(file, image, where), where)


def _entry(
    row: dict[str, Any], class_names: dict[str, list[str] | None], names: LabelNames, image: Callable[[], bytes], where: str
) -> Entry:
    label, split = label_meaning(row["label"], class_names["label"], names), split_name(row["split"], class_names["split"])
    if label is None:
        return Problem(where, _strange(row["label"], class_names["label"], names))
    if label == LEFT_OUT:
        return LeftOut(where, f"label {row['label']}")
    if split is None:
        return Problem(where, unknown("split", row["split"], SPLITS))
    expression = "" if label == UNLABELLED else label
    return Item(str(row[SAMPLE_ID]), where, image, expression=expression, split=split, identity=str(row.get("identity") or ""))


# --- labels and splits ------------------------------------------------------------------------------------------------------------


def class_label_names(schema: pa.Schema, column: str) -> list[str] | None:
    """Names of the classes 0, 1, ... of a `datasets.ClassLabel` column, from the schema's metadata; None where it has none."""
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(column, {})
    return list(feature["names"]) if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None


def label_meaning(value: Any, class_names: Sequence[str] | None, names: LabelNames) -> str | None:
    """The expression, UNLABELLED or LEFT_OUT that a value of the label column stands for; None where it is unknown."""
    if value is None or value == "" or (class_names is not None and value == -1):  # the hub's number for "no label"
        return UNLABELLED
    if class_names is not None and isinstance(value, int):
        return names.meaning(class_names[value]) if 0 <= value < len(class_names) else None
    return names.meaning(str(value))


def _strange(value: Any, class_names: Sequence[str] | None, names: LabelNames) -> str:
    if isinstance(value, str):
        return names.strange(value)
    if class_names is None:
        return f"label {value} is a number without a name; say what each means, for example --map {value}={names.classes[0]}"
    return (
        names.strange(class_names[value]) if 0 <= value < len(class_names) else f"label {value} has no name, only 0..{len(class_names) - 1}"
    )


def split_name(found: Any, class_names: Sequence[str] | None) -> str | None:
    """The split that a value of the split column stands for, "" for none; None where it is unknown."""
    if found is None or found == "":
        return ""
    if class_names is not None and isinstance(found, int):
        found = class_names[found] if 0 <= found < len(class_names) else found
    return SPLITS.get(str(found).lower())


def file_split(file: Path, base: Path) -> str:
    """The split that a file's own name or the nearest folder above it says, in the hub's manner; "" for none."""
    for part in reversed(file.relative_to(base).with_suffix("").parts):
        word = re.match(r"[A-Za-z]+", part)
        if word and word.group().lower() in SPLITS:
            return word.group().lower()
    return ""


# --- files ------------------------------------------------------------------------------------------------------------------------


def files(root: Path) -> list[Path]:
    """The file itself, or the Parquet files below a folder in order; raises DatasetError if there is none."""
    found = [root] if root.is_file() else [file for file in walk(root) if file.suffix == ".parquet"]
    if not found:
        raise DatasetError(f"{root} holds no Parquet file")
    return found


def open_file(file: Path) -> pq.ParquetFile:
    """A Parquet file; raises DatasetError if it is none."""
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(f"{file} is not a readable Parquet file: {error}") from error


def check_columns(file: Path, image: str, label: str | None) -> None:
    """Raise DatasetError if a file has no image column of bytes or no label column; `label` None asks for none."""
    with open_file(file) as opened:
        schema = opened.schema_arrow
    there = ", ".join(schema.names)
    if image not in schema.names:
        raise DatasetError(f"{file} has no column {image!r}; there are: {there}; name the images' one with --image-column")
    if label is not None and label not in schema.names:
        raise DatasetError(f"{file} has no column {label!r}; there are: {there}; name the labels' one with --label-column")
    kind = schema.field(image).type
    held = kind.field("bytes").type if pa.types.is_struct(kind) and "bytes" in {field.name for field in kind} else kind
    if not (pa.types.is_binary(held) or pa.types.is_large_binary(held) or pa.types.is_null(held)):
        raise DatasetError(f"{file}: column {image!r} is {kind}; images are bytes, or a struct of bytes and path")


def batches(file: Path, wanted: Sequence[str | None]) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches of the wanted columns, those that are there, with the number of their first row."""
    with open_file(file) as opened:
        columns = [name for name in wanted if name in opened.schema_arrow.names]
        first = 0
        if not columns:  # neither ids nor labels: the number of rows is all there is to know
            for start in range(0, opened.metadata.num_rows, BATCH):
                size = min(BATCH, opened.metadata.num_rows - start)
                yield pa.RecordBatch.from_struct_array(pa.array([{}] * size, pa.struct([]))), start
            return
        for batch in opened.iter_batches(batch_size=BATCH, columns=columns):
            yield batch.replace_schema_metadata(opened.schema_arrow.metadata), first
            first += len(batch)


def image_reader(file: Path, image: pa.Scalar, where: str) -> Callable[[], bytes]:
    """What reads the encoded image of a row: its bytes, or the file beside the Parquet file that its path names."""

    def read_image() -> bytes:
        value = image.as_py()
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if data is None and path:
            return (file.parent / path).read_bytes()
        if data is None:
            raise ImageError(f"{where}: no image")
        return bytes(data)

    return read_image


def _is_here(root: Path) -> bool:
    return root.suffix == ".parquet" if root.is_file() else any(file.suffix == ".parquet" for file in walk(root))


FORMAT = Format(
    title="Parquet of the hub",
    licence="that of the images",
    source="your own, or a download of `datasets`",
    layouts=(Layout("parquet", "FILE.parquet, or a folder of such, with columns image and label", _is_here, read),),
)
