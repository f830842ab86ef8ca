"""The unfinished folder of a stage: `artifacts/.<stage>.partial`, kept over a kill and reused only for the same work."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synfer.files import write_json

_FINGERPRINT = "fingerprint.json"


def fingerprint(settings: Any, inputs: Iterable[Path]) -> str:
    """SHA-256 of a stage's settings and of the name, size and time of every input file: cheap, and different whenever the work is."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for folder in inputs:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            status = file.stat()
            digest.update(f"{file.relative_to(folder).as_posix()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def open_partial(finished: Path, wanted: str) -> Path:
    """The folder to work in for `finished`: what an interrupted call with the fingerprint `wanted` left, else an empty one."""
    partial = finished.with_name(f".{finished.name}.partial")
    if _written_for(partial) != wanted:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_json(partial / _FINGERPRINT, {"fingerprint": wanted})
    return partial


def close_partial(partial: Path) -> None:
    """Take the fingerprint away, and what calls that were killed while they wrote a file have left of it: the folder is finished."""
    for half_written in partial.rglob(".*.tmp"):
        half_written.unlink()
    (partial / _FINGERPRINT).unlink()


def _written_for(partial: Path) -> str | None:
    try:
        return str(json.loads((partial / _FINGERPRINT).read_text(encoding="utf-8"))["fingerprint"])
    except FileNotFoundError:
        return None
