"""`synfer verify`: whether a release is what it says, file by file, row by row, image by image.

Shards and manifest are streamed side by side, so memory does not grow with the release beyond the names of its samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from components.releases.card import counts_text, read_head, stated_lines
from components.releases.counts import Counts
from components.releases.folder import CARD, CHECKSUMS, DAMAGED, ReleaseError, iter_tables
from components.releases.verify_rows import Row, image_faults, join_rows, row_differences, row_faults
from synfer.files import sha256
from synfer.images import SHARD_SCHEMA
from synfer.manifest import FILE_NAME, OPTIONAL, REQUIRED


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the file, the sample where it is about one, and what was found."""

    file: str
    sample: str | None
    message: str

    def __str__(self) -> str:
        return f"{self.file}{f', sample {self.sample}' if self.sample is not None else ''}: {self.message}"


@dataclass
class Verification:
    """Checks a release; every finding goes to `tell` at once, and `findings` counts them."""

    folder: Path
    tell: Callable[[Finding], None]
    images: int = 0
    findings: int = 0
    _unreadable: set[str] = field(default_factory=set)
    _sizes: set[tuple[int, int]] = field(default_factory=set)

    def run(self) -> Verification:
        """All checks, the cheap ones first; nothing is raised for what is wrong with the release."""
        self._check_files()
        counts = self._check_rows()
        self._check_card(counts)
        return self

    def _found(self, file: str, message: str, sample: str | None = None) -> None:
        self.findings += 1
        self.tell(Finding(file, sample, " ".join(message.split())))

    # --- files ---------------------------------------------------------------------------------------------------------------

    def _check_files(self) -> None:
        """SHA256SUMS against the files that are there."""
        there = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}
        stated = self._stated_sums()
        for name in sorted(stated.keys() - there):
            self._found(name, f"is missing, {CHECKSUMS} lists it")
        for name in sorted(there - stated.keys() - {CHECKSUMS}):
            self._found(name, f"is not listed in {CHECKSUMS}")
        for name in tqdm(sorted(stated.keys() & there), desc="checksums", unit="file", leave=False):
            if (found := sha256(self.folder / name)) != stated[name]:
                self._found(name, f"has changed: its SHA-256 is {found[:12]}..., {CHECKSUMS} has {stated[name][:12]}...")

    def _stated_sums(self) -> dict[str, str]:
        path = self.folder / CHECKSUMS
        if not path.is_file():
            self._found(CHECKSUMS, "is missing")
            return {}
        stated: dict[str, str] = {}
        lines = path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")  # splitlines knows other ends of lines
        for number, line in enumerate(lines, 1):
            digest, gap, name = line.partition("  ")
            if not gap or len(digest) != 64 or not name or name in stated:
                self._found(CHECKSUMS, f"line {number} is no checksum of a file, or the second one of the same: {line[:80]!r}")
            else:
                stated[name] = digest
        return stated

    # --- rows ----------------------------------------------------------------------------------------------------------------

    def _check_rows(self) -> Counts:
        """Every row of the shards against the manifest's, and every image; returns the counts of the manifest."""
        shards = sorted(path.name for path in self.folder.glob("images-*.parquet"))
        if not shards:
            self._found(FILE_NAME, "there is no shard images-*.parquet beside it")
        for name in shards:
            self._check_columns(name)
        counts, names, missing = Counts(), set[str](), []
        for of_shard, of_manifest in join_rows(self._checked_images(shards), self._rows(FILE_NAME)):
            if of_manifest is not None:
                self._check_row(of_manifest, counts, names)
            if of_shard is None and of_manifest is not None:
                missing.append(of_manifest.sample)
            elif of_shard is not None:
                self._compare(of_shard, of_manifest)
        self._tell_missing(missing)
        return counts

    def _check_columns(self, name: str) -> None:
        """The columns of a shard against those of the manifest."""
        try:
            schemas = [pq.read_schema(self.folder / file) for file in (name, FILE_NAME)]
        except DAMAGED:
            return  # told where the rows are read
        found, wanted = ({field.name: str(field.type) for field in schema if field.name != "image"} for schema in schemas)
        for column in [*wanted, *(column for column in found if column not in wanted)]:
            if found.get(column) != wanted.get(column):
                told = [f"is {kind}" if kind else "is missing" for kind in (found.get(column), wanted.get(column))]
                self._found(name, f"column {column!r} {told[0]}, in {FILE_NAME} it {told[1]}")

    def _checked_images(self, shards: list[str]) -> Iterator[Row]:
        """Rows of the shards without their images, each of which has been checked."""
        with tqdm(total=self._total(), desc="images", unit="image", leave=False) as bar:
            for name in shards:
                for row in self._rows(name):
                    faults, size = image_faults(row.values)
                    for fault in faults:
                        self._found(name, fault, row.sample)
                    self._sizes |= {size} if size else set()
                    self.images += 1
                    bar.update()
                    del row.values["image"]
                    yield row

    def _total(self) -> int | None:
        try:
            return int(pq.read_metadata(self.folder / FILE_NAME).num_rows)
        except DAMAGED:
            return None

    def _rows(self, name: str) -> Iterator[Row]:
        """Rows of a Parquet file of the release; where it cannot be read on, that is a finding and the rows end."""
        number = 0
        try:
            for table in iter_tables(self.folder / name):
                _check_needed(table.schema, with_image=name != FILE_NAME)
                for values in table.to_pylist():
                    number += 1
                    yield Row(name, number, values)
        except (*DAMAGED, ReleaseError) as error:
            self._unreadable.add(name)
            self._found(name, f"cannot be read from row {number + 1} on: {error}" if number else f"cannot be read: {error}")

    def _check_row(self, row: Row, counts: Counts, names: set[str]) -> None:
        if row.sample in names:
            self._found(row.file, "occurs more than once", row.sample)
        names.add(row.sample)
        for fault in row_faults(row.values):
            self._found(row.file, fault, row.sample)
        counts.add(row.values)

    def _compare(self, of_shard: Row, of_manifest: Row | None) -> None:
        if of_manifest is not None:
            for difference in row_differences(of_shard.values, of_manifest.values):
                self._found(of_shard.file, difference, of_shard.sample)
        elif FILE_NAME not in self._unreadable:
            self._found(of_shard.file, f"{FILE_NAME} has no such sample, or the shards have it more than once", of_shard.sample)

    def _tell_missing(self, samples: list[str]) -> None:
        """Samples without an image: each by itself, or in one line where a shard that cannot be read explains them."""
        if self._unreadable and samples:
            self._found(FILE_NAME, f"{len(samples)} samples have no image in what could be read of the shards, the first is {samples[0]}")
            return
        for sample in samples:
            self._found(FILE_NAME, "no shard has its image, or the manifest has it more than once", sample)

    # --- card ----------------------------------------------------------------------------------------------------------------

    def _check_card(self, counts: Counts) -> None:
        """The counts of the card, for machines and for people, against those of the manifest."""
        path = self.folder / CARD
        if not path.is_file():
            self._found(CARD, "is missing")
            return
        if FILE_NAME in self._unreadable:
            self._found(CARD, f"its counts could not be checked, for {FILE_NAME} cannot be read")
            return
        try:
            stated = read_head(path)["synfer"]
        except ReleaseError as error:
            self._found(CARD, str(error))
        else:
            for message in _different_counts("", stated.get("counts"), counts.stated()):
                self._found(CARD, message)
            self._check_size(stated.get("image_size"))
        self._check_text(stated_lines(path), counts_text(counts).split("\n"))

    def _check_size(self, stated: Any) -> None:
        for width, height in sorted(self._sizes - {(stated, stated)}):
            self._found(CARD, f"states images of {stated} x {stated} pixels, the shards have some of {width} x {height}")

    def _check_text(self, found: list[str], wanted: list[str]) -> None:
        if len(found) != len(wanted):
            self._found(CARD, f"its section of counts has {len(found)} lines, {FILE_NAME} gives {len(wanted)}")
            return
        for line, right in zip(found, wanted):
            if line != right:
                self._found(CARD, f"states {line!r}, {FILE_NAME} gives {right!r}")


def _check_needed(schema: pa.Schema, *, with_image: bool) -> None:
    """Raise ReleaseError if a column that the checks read is missing or of another type."""
    decided = {name: OPTIONAL[name] for name in ("label", "posterior", "action", "reason")}
    needed = REQUIRED | decided | ({"image": SHARD_SCHEMA.field("image").type} if with_image else {})
    for name, kind in (needed | {name: kind for name, kind in OPTIONAL.items() if name in schema.names}).items():
        if name not in schema.names:
            raise ReleaseError(f"it has no column {name!r}")
        if schema.field(name).type != kind:
            raise ReleaseError(f"its column {name!r} is {schema.field(name).type}, not {kind}")


def _different_counts(place: str, stated: Any, counted: Any) -> Iterator[str]:
    """What differs between the numbers of the card's head and those that were counted, with the path to each."""
    if isinstance(counted, dict) and isinstance(stated, dict):
        for name in [*counted, *(name for name in stated if name not in counted)]:
            yield from _different_counts(f"{place}.{name}" if place else str(name), stated.get(name, 0), counted.get(name, 0))
    elif stated != counted:
        yield f"its head states {place or 'counts'} = {stated}, {FILE_NAME} has {counted}"


def verify(folder: Path, tell: Callable[[Finding], None]) -> Verification:
    """Check a release folder; `tell` gets every finding as it is made. Nothing is raised for what is wrong with the release."""
    return Verification(folder, tell).run()
