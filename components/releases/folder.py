"""A published release as a folder of files: where it lies, the names in it, and its rows as a stream of tables.

Rows come shard by shard, some at a time, so that memory does not grow with the release.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.workspace import Workspace, WorkspaceError
from synfer.errors import SynferError
from synfer.images import shard_paths
from synfer.manifest import FILE_NAME
from synfer.vocabulary import unknown

CARD, CHECKSUMS = "CARD.md", "SHA256SUMS"
ROWS_AT_ONCE = 64
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)
"""What reading a damaged Parquet file may raise."""


class ReleaseError(SynferError):
    """A release that is unknown or cannot be read; the message names it."""


def find_release(release: str, start: Path) -> Path:
    """The folder of a release, by its path or by its name under `data/synthetic` of the project around `start`.

    Raises ReleaseError with the known names.
    """
    path = Path(release)
    if path.is_dir() and any((path / name).is_file() for name in (CHECKSUMS, FILE_NAME, CARD)):
        return path
    try:
        folder = Workspace.find(start).data / "synthetic"
    except WorkspaceError:
        raise ReleaseError(f"{release} holds no {CHECKSUMS}, and no project is here in which it could be a name") from None
    known = sorted(path.name for path in folder.glob("*/") if not path.name.startswith("."))
    if release not in known:
        raise ReleaseError(f"{unknown('release', release, known)}" if known else f"unknown release {release!r}: {folder} holds none")
    return folder / release


def iter_tables(path: Path) -> Iterator[pa.Table]:
    """Stream the rows of a Parquet file; what a damaged one raises is among DAMAGED."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            yield pa.Table.from_batches([batch])


def iter_release(folder: Path, *, split: str | None = None, with_rejected: bool = True) -> Iterator[pa.Table]:
    """Stream the rows of a release with their images in the order of the shards; raises ReleaseError naming a damaged shard."""
    for path in shard_paths(folder):
        try:
            for table in iter_tables(path):
                yield _chosen(table, split, with_rejected)
        except DAMAGED as error:
            raise ReleaseError(f"{path} cannot be read, see what is wrong with: synfer verify {folder} ({error})") from error


def _chosen(table: pa.Table, split: str | None, with_rejected: bool) -> pa.Table:
    if split is not None:
        table = table.filter(pc.equal(table["split"], split))
    return table if with_rejected else table.filter(pc.not_equal(table["action"], "reject"))
