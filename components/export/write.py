"""`synfer export`: a release in the formats that other libraries read, written in one pass and visible only when it is whole.

The bytes of the images are not touched and no column is dropped, so `components.export.reader.read_export` gives the release again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from tqdm import tqdm

from components.export.cells import ExportError
from components.export.imagefolder import ImageFolderWriter
from components.export.parquet import ParquetWriter
from components.export.webdataset import WebDatasetWriter
from components.releases.card import read_head
from components.releases.folder import CARD, CHECKSUMS, DAMAGED, ReleaseError, iter_release
from components.releases.hub import size_category
from components.templating import fill
from synfer.files import sha256, whole_folder, write_json
from synfer.images import shard_paths
from synfer.manifest import FILE_NAME, REQUIRED, SPLITS
from synfer.vocabulary import EXPRESSIONS, VocabularyError, unknown

RECORD, README = "export.json", "README.md"
LABELS = ("label", "expression")


class Writer(Protocol):
    """Writes the rows of one split; `schema` is that of the rows, `label` the column that is the class."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, *, label: str) -> None: ...

    def add(self, rows: pa.Table) -> None:
        """Write some rows."""

    def close(self) -> None:
        """Finish the files."""


WRITERS: dict[str, type[Writer]] = {"imagefolder": ImageFolderWriter, "webdataset": WebDatasetWriter, "parquet": ParquetWriter}


@dataclass(frozen=True)
class Export:
    """What was written: the images of each split, and how many of the release were left out."""

    out: Path
    splits: dict[str, int]
    left_out: int

    @property
    def images(self) -> int:
        """Images in all splits."""
        return sum(self.splits.values())


def export(
    release: Path, out: Path, *, to: str, split: str | None = None, label: str = "label", with_rejected: bool = False
) -> Export:
    """Write the release folder `release` to the folder `out`, in the place of an earlier export; see the module.

    Raises VocabularyError for an unknown format, split or label, ExportError if `out` holds something else or no image is left, and
    ReleaseError if the release is damaged.
    """
    for kind, name, known in (("format", to, WRITERS), ("label", label, LABELS), ("split", split or SPLITS[0], SPLITS)):
        if name not in known:
            raise VocabularyError(unknown(kind, name, known))
    check_replaceable(out, release)
    head = _head(release)
    schema, total = _survey(release)
    settings = {"format": to, "split": split, "label": label, "with_rejected": with_rejected}
    with whole_folder(out) as folder:
        counts = _write(release, folder, WRITERS[to], schema=schema, total=total, split=split, label=label, with_rejected=with_rejected)
        done = Export(out, dict(sorted(counts.items())), total - sum(counts.values()))
        if not done.images:
            rejected = "with" if with_rejected else "without"
            raise ExportError(f"{release} has no image for this export: split {split or 'any'}, {rejected} rejected ones")
        _describe(release, folder, head, schema, settings, done)
    return done


def check_replaceable(out: Path, release: Path) -> None:
    """Raise ExportError unless `out` is missing, empty, or an earlier export, and neither the release nor the current folder."""
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; give a folder")
    if out.resolve().is_relative_to(release.resolve()) or release.resolve().is_relative_to(out.resolve()):
        raise ExportError(f"{out} and the release {release} lie in one another; choose another folder")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file():
        raise ExportError(f"{out} holds something else than an earlier export, which would be lost; choose another folder")
    if out.resolve() == Path.cwd():
        raise ExportError(f"{out} is the folder that you are in and cannot be replaced; name one inside it")


def _survey(release: Path) -> tuple[pa.Schema, int]:
    """Schema of the rows and their number; raises ReleaseError where shards differ in it or disagree with the manifest."""
    try:
        files = [pq.ParquetFile(path) for path in shard_paths(release)]
        stated = pq.read_metadata(release / FILE_NAME).num_rows
    except DAMAGED as error:
        raise ReleaseError(f"{release} cannot be read, see what is wrong with: synfer verify {release} ({error})") from error
    schemas = [file.schema_arrow.remove_metadata() for file in files]
    total = sum(file.metadata.num_rows for file in files)
    for file in files:
        file.close()
    complete = {"image", "action", *LABELS, *REQUIRED} <= set(schemas[0].names)
    if total != stated or not complete or any(schema != schemas[0] for schema in schemas):
        raise ReleaseError(f"the shards of {release} do not agree with its manifest, see what is wrong with: synfer verify {release}")
    return schemas[0], total


def _write(
    release: Path, folder: Path, writer: type[Writer], *, schema: pa.Schema, total: int, split: str | None, label: str, with_rejected: bool
) -> Counter[str]:
    """Write all chosen rows in their order, a writer a split; returns the number of images of each."""
    writers: dict[str, Writer] = {}
    counts: Counter[str] = Counter()
    with tqdm(total=total, desc="export", unit="image", leave=False) as bar:
        for rows in iter_release(release, split=split, with_rejected=with_rejected):
            _check(release, rows, label)
            for name in rows["split"].unique().to_pylist():
                part = rows.filter(pc.equal(rows["split"], name))
                if name not in writers:
                    writers[name] = writer(folder, name, schema, label=label)
                writers[name].add(part)
                counts[name] += len(part)
            bar.update(len(rows))
    for one in writers.values():
        one.close()
    return counts


def _check(release: Path, rows: pa.Table, label: str) -> None:
    """Raise unless every row has the image that its SHA-256 names, and a class."""
    columns = (rows[name].to_pylist() for name in ("sample_id", "image", "sha256", label))
    for sample_id, image, digest, name in zip(*columns, strict=True):
        if image is None or hashlib.sha256(image["bytes"] or b"").hexdigest() != digest:
            raise ReleaseError(f"{release}, sample {sample_id}: the image has changed, see what is wrong with: synfer verify {release}")
        if name not in EXPRESSIONS:
            raise ExportError(f"{release}, sample {sample_id}: {label} is {name!r}, which is no class; choose another --label")


def _head(release: Path) -> dict[str, Any]:
    """The head of the release's card in the hub's terms; raises ReleaseError where it or the checksums are missing."""
    if missing := [name for name in (CARD, CHECKSUMS) if not (release / name).is_file()]:
        raise ReleaseError(f"{release} lacks {missing[0]}")
    try:
        head = read_head(release / CARD)
    except ReleaseError as error:
        raise ReleaseError(f"{release / CARD}: {error}") from error
    return {"pretty_name": release.name, **{name: value for name, value in head.items() if name != "synfer"}}


def _describe(
    release: Path, folder: Path, head: Mapping[str, Any], schema: pa.Schema, settings: Mapping[str, object], done: Export
) -> None:
    """What the export is, for `read_export`, for the hub, and for people; the release's own card goes along."""
    shutil.copyfile(release / CARD, folder / CARD)
    columns = [[field.name, str(field.type)] for field in schema if field.name != "image"]  # a list keeps their order
    name = head["pretty_name"]
    origin = {"release": name, "release_sha256sums": sha256(release / CHECKSUMS)}
    write_json(folder / RECORD, {**settings, **origin, "splits": done.splits, "columns": columns, "classes": EXPRESSIONS})
    for_hub = yaml.safe_dump({**head, "size_categories": [size_category(done.images)]}, sort_keys=False)
    text = fill("EXPORT.md.j2", head=for_hub, release=name, done=done, classes=list(EXPRESSIONS), **settings)
    (folder / README).write_text(text, encoding="utf-8")
