"""Other people's faces as one stream, whatever they lie in: class folders, a flat folder, Parquet files, a dataset of this project.

A source is read twice. `rows` gives ids and labels alone, in a second, so that a label that nobody understands is told before any work;
`items` gives the encoded images too. Both run in the same order on every call; neither holds more than a few hundred images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from synfer.datasets import entries, parquet
from synfer.datasets.entries import DatasetError, Entry, LeftOut, Problem
from synfer.datasets.files import SUFFIXES, images, name_of, walk
from synfer.datasets.folders import read_class_folders
from synfer.datasets.names import LEFT_OUT, UNLABELLED, LabelError, LabelNames
from synfer.images import ImageError, decode, iter_encoded, iter_sample_ids
from synfer.manifest import FILE_NAME, read_manifest

IMAGE_FOLDER = "image folder"
_NO_COLUMN = ""  # where a file's splits and people would be: they are not asked for


@dataclass(frozen=True, slots=True)
class Row:
    """An image by name, with the label that it came with; "" for none."""

    sample_id: str
    given: str


@dataclass(frozen=True, slots=True)
class Item:
    """A row with its image: `read` gives the encoded bytes, `where` is what an error calls it."""

    sample_id: str
    given: str
    where: str
    read: Callable[[], bytes]

    def pixels(self) -> np.ndarray:
        """RGB pixels uint8 (H, W, 3); raises ImageError naming the image if it cannot be read or decoded."""
        try:
            return decode(self.read(), where=self.where)
        except ImageError:
            raise
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ImageError(f"{self.where}: not a readable image: {error}") from error


class Source(Protocol):
    """Faces with labels; `ignored` counts files that are no images, `digest` changes whenever a file does."""

    @property
    def kind(self) -> str:
        """What it is, in words."""
        ...

    @property
    def ignored(self) -> int:
        """Files that are no images."""
        ...

    def rows(self) -> Iterator[Row]:
        """Ids and labels; raises LabelError on one that is not known."""
        ...

    def items(self) -> Iterator[Item]:
        """The same rows with their images."""
        ...

    def digest(self) -> str:
        """SHA-256 of names, sizes and times of the files."""
        ...


def open_source(
    path: Path, names: LabelNames, *, image_column: str = "image", label_column: str | None = "label", unlabelled: bool = False
) -> Source:
    """The source at `path`: a Parquet file or a folder; `unlabelled` looks at no label. Raises DatasetError if there is nothing to read."""
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    if path.is_file() and path.suffix != ".parquet":
        raise DatasetError(f"{path} is neither a folder nor a Parquet file")
    if (path / FILE_NAME).is_file():
        return DatasetFolder(path, names, unlabelled=unlabelled)
    if path.is_dir() and any(images(path)):
        return _image_folder(path, names, unlabelled=unlabelled)
    if path.is_dir() and not any(file.suffix == ".parquet" for file in walk(path)):
        raise DatasetError(f"{path} holds no image ({', '.join(SUFFIXES)}) and no Parquet file")
    return _parquet_files(path, names, image_column, None if unlabelled else label_column)


# --- files --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """Images that a reader of `synfer/datasets` finds in files below `root`; an id is the name that it gives them."""

    kind: str
    root: Path
    files: Callable[[], Iterator[Path]]
    classes: Sequence[str]
    read: Callable[..., Iterator[Entry]]
    ignored: int = 0

    def rows(self) -> Iterator[Row]:
        """Ids and labels; no image is read. Raises DatasetError on an id that occurs twice."""
        seen: set[str] = set()
        for item in self._read(pixels=False):
            if item.name in seen:
                raise DatasetError(f"{item.where}: sample_id {item.name!r} occurs more than once")
            seen.add(item.name)
            yield Row(item.name, item.expression)

    def items(self) -> Iterator[Item]:
        """In the order of the files' paths."""
        return (Item(item.name, item.expression, item.where, item.read) for item in self._read(pixels=True))

    def digest(self) -> str:
        """Of the files."""
        return files_digest(self.root, self.files())

    def _read(self, *, pixels: bool) -> Iterator[entries.Item]:
        """What is to be looked at; raises LabelError on a label that is unknown or none of the classes."""
        for entry in self.read(pixels=pixels):
            if isinstance(entry, Problem):
                raise LabelError(f"{entry.where}: {entry.what}")
            if not isinstance(entry, LeftOut):
                check_class(entry.expression, self.classes, where=entry.where)
                yield entry


def _image_folder(root: Path, names: LabelNames, *, unlabelled: bool) -> Files:
    """Class folders (`train/happy/0001.jpg`: the innermost folder that names a class counts), or images without any folder."""
    without_labels = unlabelled or all(file.parent == root for file in images(root))

    def read(*, pixels: bool) -> Iterator[Entry]:
        if without_labels:
            return (entries.Item(name_of(file, root), str(file), file.read_bytes) for file in images(root))
        return read_class_folders(root, meaning=names.meaning, splits={}, strange=names.strange)

    ignored = sum(file.suffix.lower() not in SUFFIXES for file in walk(root))
    return Files(IMAGE_FOLDER, root, partial(images, root), names.classes, read, ignored)


def _parquet_files(path: Path, names: LabelNames, image_column: str, label_column: str | None) -> Files:
    """Parquet in the convention of the hub; an id is the column `sample_id` where there is one, else `file.parquet:row`."""
    found = parquet.files(path)
    for file in found:
        parquet.check_columns(file, image_column, label_column)
    read = partial(
        parquet.read, path, names=names, image_column=image_column, label_column=label_column, split_column=_NO_COLUMN,
        identity_column=_NO_COLUMN,
    )  # fmt: skip
    root = path.parent if path.is_file() else path
    return Files("Parquet", root, lambda: iter(found), names.classes, read)


def files_digest(root: Path, files: Iterator[Path]) -> str:
    """SHA-256 of the names, sizes and times of files below `root`."""
    digest = hashlib.sha256(str(root.resolve()).encode())
    for file in files:
        status = file.stat()
        digest.update(f"{file.relative_to(root).as_posix()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def check_class(expression: str, classes: Sequence[str], *, where: str) -> None:
    """Raise LabelError if an expression is none that the members can tell; "" is no label."""
    if expression and expression not in classes:
        told = f"leave its images out with --map {expression}={LEFT_OUT}, or have them labelled anew with --map {expression}={UNLABELLED}"
        raise LabelError(f"{where}: the members cannot tell {expression!r}, only {', '.join(classes)}; {told}")


# --- a dataset of this project -------------------------------------------------------------------------------------------------------


class DatasetFolder:
    """A dataset folder of this project: the label is the manifest's `expression`, the order that of the shards."""

    kind, ignored = "dataset of SynFER", 0

    def __init__(self, root: Path, names: LabelNames, *, unlabelled: bool) -> None:
        self.root = root
        frame = read_manifest(root)
        self._given: dict[str, str] = {}
        for sample_id, expression in zip(frame["sample_id"], frame["expression"], strict=True):
            given = names.meaning(expression) if expression and not unlabelled else UNLABELLED
            if given == LEFT_OUT:
                continue
            self._given[sample_id] = "" if given in (None, UNLABELLED) else str(given)
            check_class(self._given[sample_id], names.classes, where=f"{root}, sample {sample_id}")
        missing = self._given.keys() - set(iter_sample_ids(root))
        if missing:
            raise ImageError(f"{root} has no image for sample {min(missing)} (and {len(missing) - 1} more)")

    def rows(self) -> Iterator[Row]:
        """Rows of the manifest."""
        return (Row(sample_id, self._given[sample_id]) for sample_id in iter_sample_ids(self.root) if sample_id in self._given)

    def items(self) -> Iterator[Item]:
        """Images of the shards."""
        for sample_id, data in iter_encoded(self.root):
            if sample_id in self._given:
                yield Item(sample_id, self._given[sample_id], f"{self.root}, sample {sample_id}", lambda data=data: data)  # type: ignore[misc]

    def digest(self) -> str:
        """Of manifest and shards."""
        return files_digest(self.root, iter([self.root / FILE_NAME, *sorted(self.root.glob("images-*.parquet"))]))
