"""Parquet in the hub's convention: `data/<split>-00000-of-00002.parquet`, whose schema says what is an image and what a class label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.releases.folder import iter_tables
from components.releases.hub import hub_schema
from synfer.vocabulary import EXPRESSIONS

SHARD_IMAGES = 1000


class ParquetWriter:
    """Writes the rows of one split; the column `label` becomes the numbers of a ClassLabel over the vocabulary's expressions."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, *, label: str) -> None:
        numbers = schema.set(schema.get_field_index(label), pa.field(label, pa.int64()))
        self._schema = hub_schema(numbers, class_names={label: EXPRESSIONS})
        self._folder, self._split, self._label = folder / "data", split, label
        self._folder.mkdir(exist_ok=True)
        self._file: pq.ParquetWriter | None = None
        self._paths: list[Path] = []
        self._room = 0

    def add(self, rows: pa.Table) -> None:
        """Write some rows; a shard that is full is closed."""
        classes = pc.index_in(rows[self._label], pa.array(EXPRESSIONS)).cast(pa.int64())
        rows = rows.set_column(rows.schema.get_field_index(self._label), self._label, classes).cast(self._schema)
        while len(rows):
            if self._file is None:
                self._paths.append(self._folder / f"{self._split}-{len(self._paths):05d}.parquet")
                self._file, self._room = pq.ParquetWriter(self._paths[-1], self._schema, compression="zstd"), SHARD_IMAGES
            self._file.write_table(rows[: self._room])
            rows, self._room = rows[self._room :], self._room - min(self._room, len(rows))
            if not self._room:
                self._close_shard()

    def _close_shard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Finish the open shard, and let the names say how many there are."""
        self._close_shard()
        for number, path in enumerate(self._paths):
            path.rename(self._folder / f"{self._split}-{number:05d}-of-{len(self._paths):05d}.parquet")


def read_parquet(folder: Path, split: str, *, label: str) -> Iterator[pa.Table]:
    """Stream the rows of a split as they were in the release, the class by its name."""
    for path in sorted((folder / "data").glob(f"{split}-*-of-*.parquet")):
        for rows in iter_tables(path):
            names = pa.chunked_array([pa.array(EXPRESSIONS).take(chunk) for chunk in rows[label].chunks], pa.string())
            yield rows.set_column(rows.schema.get_field_index(label), label, names).replace_schema_metadata()
