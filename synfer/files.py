"""Files and folders that appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synfer.errors import SynferError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux, <fcntl.h> and <linux/fs.h>


class FolderInUseError(SynferError):
    """A folder that another process is writing at this moment."""


class DamagedFileError(SynferError):
    """A file that is there but cannot be read: cut off, or its bytes are not those that were written; `path` is the file."""

    def __init__(self, path: Path, why: object) -> None:
        super().__init__(f"{path} is damaged: {' '.join(str(why).split()).rstrip('.')}")
        self.path = path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`, on an error it is removed and `path` stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes the place of `path`, on an error it is removed and `path` stays.

    What a killed call has left is removed by the next one. Raises FolderInUseError while another process writes the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.unfinished")
    temporary.mkdir(exist_ok=True)
    held = _lock_folder(temporary, path)
    try:
        for left in temporary.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield temporary
        replace_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        os.close(held)


def _lock_folder(temporary: Path, path: Path) -> int:
    """A descriptor that locks the folder until it is closed, or its process has ended however it may."""
    held = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(held), os.stat(temporary)):
            raise FileNotFoundError  # the other process has finished between our two calls
    except (BlockingIOError, FileNotFoundError):
        os.close(held)
        raise FolderInUseError(f"another process is writing {path} at this moment; wait for it, or choose another folder") from None
    return held


def replace_folder(finished: Path, path: Path) -> Path:
    """Move the folder `finished` to `path`, in the place of an older one; returns `path`.

    Where the file system can exchange two names at once (Linux), a kill at any moment leaves the old folder or the new one.
    """
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists() and _exchange(finished, path):
        old = finished
    else:
        if path.exists():
            os.replace(path, old)
        os.replace(finished, path)
    shutil.rmtree(old, ignore_errors=True)
    return path


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step, by renameat2(2); False where system or file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as indented JSON with sorted keys; returns `path`."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their relative names in sorted order, as hex."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold a lock that one process of this machine has at a time; `on_wait` is called once if another one has it now.

    `path` is a folder, or a file that is made and stays: what counts is the lock on it, which the system drops when its holder ends,
    however it ends. Yields the descriptor that holds it: a program that inherits it holds the lock too, until both have ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)  # releases the lock
