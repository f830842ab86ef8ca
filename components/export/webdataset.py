"""Tar shards as webdataset reads them: `<sample>.png`, `<sample>.json` with all columns, and `<sample>.cls`, the number of the class."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.export.cells import image_name, plain_rows, rows_of_plain, type_of_name
from components.releases.folder import ROWS_AT_ONCE
from synfer.vocabulary import EXPRESSIONS

SHARD_IMAGES = 1000


class WebDatasetWriter:
    """Writes the rows of one split as `<split>-00000.tar` and so on; equal rows give equal bytes."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, *, label: str) -> None:
        for field in schema:
            if field.name != "image":
                type_of_name(str(field.type))
        self._folder, self._split, self._label = folder, split, label
        self._tar: tarfile.TarFile | None = None
        self._written = 0

    def add(self, rows: pa.Table) -> None:
        """Write some rows; a shard that is full is closed."""
        for row, image in zip(plain_rows(rows), rows["image"].to_pylist(), strict=True):
            if self._written % SHARD_IMAGES == 0:
                self.close()
                path = self._folder / f"{self._split}-{self._written // SHARD_IMAGES:05d}.tar"
                self._tar = tarfile.open(path, "w")  # noqa: SIM115 - it stays open over many calls
            self._member(image_name(row["sample_id"], image), image["bytes"])
            self._member(f"{row['sample_id']}.json", json.dumps(row, ensure_ascii=False, allow_nan=False).encode())
            self._member(f"{row['sample_id']}.cls", str(EXPRESSIONS.index(row[self._label])).encode())
            self._written += 1

    def _member(self, name: str, data: bytes) -> None:
        assert self._tar is not None
        about = tarfile.TarInfo(name)  # without the time, so that the bytes depend on the rows alone
        about.size = len(data)
        self._tar.addfile(about, io.BytesIO(data))

    def close(self) -> None:
        """Finish the open shard."""
        if self._tar is not None:
            self._tar.close()


def read_webdataset(folder: Path, split: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """Stream the rows of a split as they were in the release; `schema` is theirs without `image`."""
    plain: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None  # a shard holds plain files alone
                if member.name.endswith(".json"):
                    plain.append(json.load(file))
                elif not member.name.endswith(".cls"):
                    images.append({"bytes": file.read(), "path": member.name})
                elif len(plain) == ROWS_AT_ONCE:
                    yield rows_of_plain(plain, schema).append_column("image", pa.array(images))
                    plain, images = [], []
    if plain:
        yield rows_of_plain(plain, schema).append_column("image", pa.array(images))
