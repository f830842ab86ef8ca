"""Other people's faces as one stream, whatever they lie in: class folders, a flat folder, Parquet files, a dataset of this project.

A source is read twice. `rows` gives ids and labels alone, in a second, so that a label that nobody understands is told before any work;
`items` gives the encoded images too. Both run in the same order on every call; neither holds more than a few hundred images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from components.annotate_labels import LEFT_OUT, UNLABELLED, LabelError, LabelNames
from synfer.errors import SynferError
from synfer.images import ImageError, decode, iter_encoded, iter_sample_ids
from synfer.manifest import FILE_NAME, read_manifest

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")


class SourceError(SynferError):
    """A source that is missing, empty, or none of the kinds that can be read; the message names it."""


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

    kind: str
    ignored: int

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
    """The source at `path`: a Parquet file or a folder; `unlabelled` looks at no label. Raises SourceError if there is nothing to read."""
    from components.annotate_parquet import ParquetFiles

    if not path.exists():
        raise SourceError(f"{path} does not exist")
    label = None if unlabelled else label_column
    if path.is_file():
        if path.suffix != ".parquet":
            raise SourceError(f"{path} is neither a folder nor a Parquet file")
        return ParquetFiles(path.parent, [path], names, image_column, label)
    if (path / FILE_NAME).is_file():
        return DatasetFolder(path, names, unlabelled=unlabelled)
    if any(file.suffix.lower() in SUFFIXES for file in _walk(path)):
        return ImageFolder(path, names, unlabelled=unlabelled)
    files = [file for file in _walk(path) if file.suffix == ".parquet"]
    if not files:
        raise SourceError(f"{path} holds no image ({', '.join(SUFFIXES)}) and no Parquet file")
    return ParquetFiles(path, files, names, image_column, label)


def files_digest(root: Path, files: Iterable[Path]) -> str:
    """SHA-256 of the names, sizes and times of files below `root`."""
    digest = hashlib.sha256(str(root.resolve()).encode())
    for file in files:
        status = file.stat()
        digest.update(f"{file.relative_to(root).as_posix()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class ImageFolder:
    """Class folders (`train/happy/0001.jpg`: the innermost folder that names a class counts), or images without any folder."""

    kind = "image folder"

    def __init__(self, root: Path, names: LabelNames, *, unlabelled: bool) -> None:
        self.root, self._names, self._unlabelled = root, names, unlabelled
        self._flat = not any(file.parent != root for file in self._files())
        self.ignored = sum(file.suffix.lower() not in SUFFIXES for file in _walk(root))

    def rows(self) -> Iterator[Row]:
        """Ids are paths below the folder."""
        yield from (Row(sample_id, given) for sample_id, given, _ in self._labelled())

    def items(self) -> Iterator[Item]:
        """Files in the order of their paths."""
        yield from (Item(sample_id, given, str(file), file.read_bytes) for sample_id, given, file in self._labelled())

    def digest(self) -> str:
        """Of the images."""
        return files_digest(self.root, self._files())

    def _files(self) -> Iterator[Path]:
        return (file for file in _walk(self.root) if file.suffix.lower() in SUFFIXES)

    def _labelled(self) -> Iterator[tuple[str, str, Path]]:
        for file in self._files():
            given = UNLABELLED if self._flat or self._unlabelled else self._class(file)
            if given != LEFT_OUT:
                yield file.relative_to(self.root).as_posix(), "" if given == UNLABELLED else given, file

    def _class(self, file: Path) -> str:
        folders = file.relative_to(self.root).parts[:-1]
        if not folders:
            raise LabelError(f"{file} lies beside class folders, so it has no label; move it, or take no label at all with --unlabelled")
        name = next((name for name in reversed(folders) if self._names.meaning(name) is not None), folders[-1])
        return self._names(name, where=str(file.parent))


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder, sorted folder by folder; hidden ones are left out."""
    entries = sorted((entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from _walk(folder / entry.name)
        else:
            yield folder / entry.name


class DatasetFolder:
    """A dataset folder of this project: the label is the manifest's `expression`, the order that of the shards."""

    kind, ignored = "dataset of SynFER", 0

    def __init__(self, root: Path, names: LabelNames, *, unlabelled: bool) -> None:
        self.root, self._unlabelled = root, unlabelled
        frame = read_manifest(root)
        self._given: dict[str, str] = {}
        for sample_id, expression in zip(frame["sample_id"], frame["expression"], strict=True):
            given = names(expression, where=f"{root}, sample {sample_id}") if expression and not unlabelled else UNLABELLED
            if given != LEFT_OUT:
                self._given[sample_id] = "" if given == UNLABELLED else given
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
        return files_digest(self.root, [self.root / FILE_NAME, *sorted(self.root.glob("images-*.parquet"))])
