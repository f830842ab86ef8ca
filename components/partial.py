"""The unfinished folder of a stage: `artifacts/.<stage>.partial`, kept over a kill and reused only for the same work."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from synfer.files import write_json
from synfer.images import DamagedShardError, iter_shard

_FINGERPRINT = "fingerprint.json"


def fingerprint(settings: Any, inputs: Iterable[Path]) -> str:
    """SHA-256 of a stage's settings and of the name, size and time of every input file: cheap, and different whenever the work is."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for folder in inputs:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            status = file.stat()
            digest.update(f"{file.relative_to(folder).as_posix()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def partial_folder(finished: Path) -> Path:
    """Where the stage works that will leave the folder `finished`."""
    return finished.with_name(f".{finished.name}.partial")


def open_partial(finished: Path, wanted: str) -> Path:
    """The folder to work in for `finished`: what an interrupted call with the fingerprint `wanted` left, else an empty one.

    Of what was left, a Parquet file or array that cannot be read is removed, so that the stage makes it again.
    """
    partial = partial_folder(finished)
    if not was_left(finished, wanted):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_json(partial / _FINGERPRINT, {"fingerprint": wanted})
    for pattern, read in _READ.items():
        for path in partial.rglob(pattern):
            if not _is_whole(path, read):
                path.unlink()
    return partial


def was_left(finished: Path, wanted: str) -> bool:
    """Whether an interrupted call with the fingerprint `wanted` has left its folder."""
    return _written_for(partial_folder(finished)) == wanted


def _read_shard(path: Path) -> None:
    deque(iter_shard(path), maxlen=0)


def _open_array(path: Path) -> None:
    np.load(path, mmap_mode="r")  # its length is checked, its bytes are not


_READ: dict[str, Callable[[Path], None]] = {"*.parquet": _read_shard, "*.npy": _open_array}


def _is_whole(path: Path, read: Callable[[Path], None]) -> bool:
    try:
        read(path)
    except (DamagedShardError, ValueError, EOFError):
        return False
    return True


def close_partial(partial: Path) -> None:
    """Take the fingerprint away, and what calls that were killed while they wrote a file have left of it: the folder is finished."""
    for half_written in partial.rglob(".*.tmp"):
        half_written.unlink()
    (partial / _FINGERPRINT).unlink()


def _written_for(partial: Path) -> str | None:
    try:
        return str(json.loads((partial / _FINGERPRINT).read_text(encoding="utf-8"))["fingerprint"])
    except (FileNotFoundError, ValueError, KeyError):  # none, or cut off by a full disk
        return None
