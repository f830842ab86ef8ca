"""Parquet files in the convention of the Hugging Face hub: an image column of bytes, a label column of names or of ClassLabel numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.annotate_labels import LEFT_OUT, UNLABELLED, LabelError, LabelNames
from components.annotate_sources import Item, Row, SourceError, files_digest
from synfer.images import ImageError

_BATCH = 64  # rows that are held at once
_ID = "sample_id"


class ParquetFiles:
    """Rows of Parquet files in the order of their names; an id is the column `sample_id` where there is one, else `file.parquet:row`."""

    kind, ignored = "Parquet", 0

    def __init__(self, root: Path, files: Sequence[Path], names: LabelNames, image_column: str, label_column: str | None) -> None:
        self.root, self.files, self._names = root, files, names
        self._image, self._label = image_column, label_column
        for file in files:
            _check_columns(file, _open(file).schema_arrow, image_column, label_column)

    def rows(self) -> Iterator[Row]:
        """Ids and labels; no image is read."""
        seen: set[str] = set()
        for file in self.files:
            for batch, first in _batches(file, [_ID, self._label]):
                for sample_id, given in self._labelled(file, batch, first):
                    if sample_id in seen:
                        raise SourceError(f"{file}: {_ID} {sample_id!r} occurs more than once")
                    seen.add(sample_id)
                    if given != LEFT_OUT:
                        yield Row(sample_id, given)

    def items(self) -> Iterator[Item]:
        """Rows with their images."""
        for file in self.files:
            for batch, first in _batches(file, [_ID, self._label, self._image]):
                images = batch.column(self._image)
                for index, (sample_id, given) in enumerate(self._labelled(file, batch, first)):
                    if given != LEFT_OUT:
                        yield _item(file, sample_id, given, images[index], row=first + index)

    def digest(self) -> str:
        """Of the files."""
        return files_digest(self.root, self.files)

    def _labelled(self, file: Path, batch: pa.RecordBatch, first: int) -> Iterator[tuple[str, str]]:
        """Id and label of every row of a batch; "" for no label, LEFT_OUT for those that nobody is to look at."""
        name = file.relative_to(self.root).as_posix()
        ids = batch.column(_ID).to_pylist() if _ID in batch.schema.names else [f"{name}:{first + row}" for row in range(len(batch))]
        if self._label is None:
            yield from ((str(sample_id), "") for sample_id in ids)
            return
        class_names = class_label_names(batch.schema, self._label)
        for row, (sample_id, value) in enumerate(zip(ids, batch.column(self._label).to_pylist(), strict=True)):
            given = self._given(value, class_names, where=f"{file}, row {first + row}")
            yield str(sample_id), "" if given == UNLABELLED else given

    def _given(self, value: Any, class_names: Sequence[str] | None, *, where: str) -> str:
        if value is None or value == "" or (class_names is not None and value == -1):  # the hub's number for "no label"
            return UNLABELLED
        if isinstance(value, str):
            return self._names(value, where=where)
        if class_names is None:
            if str(value) in self._names.told:
                return self._names(str(value), where=where)
            raise LabelError(
                f"{where}: label {value!r} of column {self._label!r} is a number without a name; say what each means, for example "
                f"--map 0={self._names.classes[0]},1={self._names.classes[-1]}"
            )
        if not 0 <= value < len(class_names):
            raise LabelError(f"{where}: label {value} has no name; column {self._label!r} names 0..{len(class_names) - 1}")
        return self._names(class_names[value], where=where)


def class_label_names(schema: pa.Schema, column: str) -> list[str] | None:
    """Names of the classes 0, 1, ... of a `datasets.ClassLabel` column, from the schema's metadata; None where it has none."""
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(column, {})
    return list(feature["names"]) if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None


def _check_columns(file: Path, schema: pa.Schema, image: str, label: str | None) -> None:
    there = ", ".join(schema.names)
    if image not in schema.names:
        raise SourceError(f"{file} has no column {image!r}; there are: {there}; name the images' one with --image-column")
    if label is not None and label not in schema.names:
        raise SourceError(
            f"{file} has no column {label!r}; there are: {there}; name the labels' one with --label-column, or take none with --unlabelled"
        )
    kind = schema.field(image).type
    held = kind.field("bytes").type if pa.types.is_struct(kind) and "bytes" in {field.name for field in kind} else kind
    if not (pa.types.is_binary(held) or pa.types.is_large_binary(held) or pa.types.is_null(held)):
        raise SourceError(f"{file}: column {image!r} is {kind}; images are bytes, or a struct of bytes and path")


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{file} is not a readable Parquet file: {error}") from error


def _batches(file: Path, wanted: Sequence[str | None]) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches of the wanted columns, those that are there, with the number of their first row."""
    with _open(file) as opened:
        columns = [name for name in wanted if name in opened.schema_arrow.names]
        first = 0
        if not columns:  # neither ids nor labels: the number of rows is all there is to know
            for start in range(0, opened.metadata.num_rows, _BATCH):
                size = min(_BATCH, opened.metadata.num_rows - start)
                yield pa.RecordBatch.from_struct_array(pa.array([{}] * size, pa.struct([]))), start
            return
        for batch in opened.iter_batches(batch_size=_BATCH, columns=columns):
            yield batch.replace_schema_metadata(opened.schema_arrow.metadata), first
            first += len(batch)


def _item(file: Path, sample_id: str, given: str, image: pa.Scalar, *, row: int) -> Item:
    where = f"{file}, row {row}"

    def read() -> bytes:
        value = image.as_py()
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if data is None and path:
            return (file.parent / path).read_bytes()
        if data is None:
            raise ImageError(f"{where}: no image")
        return bytes(data)

    return Item(sample_id, given, where, read)
