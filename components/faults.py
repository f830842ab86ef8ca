"""What the world does to a stage, told in one line: a full disk, a damaged file, an MLflow that does not answer.

Each line names the place and what to do; what is finished stays, and the same call continues from there.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from components.lineage import data_digests
from components.workspace import Workspace
from synfer.errors import SynferError
from synfer.files import DamagedFileError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Where a library keeps the words and drops the number.
_FULL_WORDS = ("no space left on device", "database or disk is full", "disk quota exceeded", "file too large")
_OUTAGES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}  # MLflow's codes for "not now"


class FullDiskError(SynferError):
    """No space for a file; the message names the place and the free space."""


class DamagedInputError(SynferError):
    """A file of a stage or a dataset that cannot be read; the message says how to get it back."""


class TrackingError(SynferError):
    """MLflow's database or server does not answer; later it may."""


@contextmanager
def told(workspace: Workspace, folder: Path) -> Iterator[None]:
    """Turn what the world did while a stage wrote to `folder` into FullDiskError, DamagedInputError or TrackingError."""
    try:
        yield
    except DamagedFileError as error:
        raise DamagedInputError(f"{error}; {_remedy(error.path, workspace)}") from error
    except SynferError:
        raise
    except Exception as error:
        if full := _full(error):
            raise FullDiskError(_space(full, folder)) from error
        if is_outage(error):
            raise _outage(error) from None
        raise


def is_outage(error: BaseException) -> bool:
    """Whether an error of MLflow, or of the network below it, says that its server or database is not to be had now."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    return (isinstance(error, MlflowException) and error.error_code in _OUTAGES) or isinstance(error, RequestException)


@contextmanager
def outages_told() -> Iterator[None]:
    """Raise TrackingError where MLflow does not answer; it names no cause, for Prefect would log that too, address and password."""
    try:
        yield
    except Exception as error:
        if _full(error) or not is_outage(error):
            raise
        raise _outage(error) from None


def _outage(error: BaseException) -> TrackingError:
    import mlflow

    parts = urlsplit(mlflow.get_tracking_uri())  # a password in it is told to nobody
    place = f"{parts.scheme}://{parts.hostname}:{parts.port}" if parts.hostname else parts.path
    why = re.sub(r"//[^/\s]*@", "//", str(error).split("(Caused by")[-1].split("\n")[0])[:200].strip()
    return TrackingError(f"MLflow at {place} does not answer; what is finished is kept: start MLflow, and run the same again ({why})")


def _full(error: BaseException | None) -> BaseException | None:
    """The error below `error` that says that a disk is full, if one does."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        if any(words in str(error).lower() for words in _FULL_WORDS):
            return error
        error = error.__cause__ or error.__context__
    return None


def _space(error: BaseException, folder: Path) -> str:
    path = Path(os.fsdecode(error.filename)) if isinstance(error, OSError) and error.filename else folder
    there = next(parent for parent in (path, *path.resolve().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    what = str(error).split("\n")[0][:160]
    todo = "what is finished is kept: make space, and run the same again"
    return f"no space for {path}: {free / 1e6:,.1f} MB are free there; {todo} ({what})"


def _remedy(path: Path, workspace: Workspace) -> str:
    path, root = path.resolve(), workspace.root
    studies, stages = workspace.studies.resolve(), workspace.artifacts.resolve()
    if path.is_relative_to(studies):  # first: the stages of a study's faces lie in there too
        made = workspace.studies.relative_to(root) / _made_at_once(path.relative_to(studies))
        return f"remove {made.as_posix()} and run the same study again"
    if path.is_relative_to(stages) and len(path.relative_to(stages).parts) > 1:
        return f"make it again with: synfer run {path.relative_to(stages).parts[0].removeprefix('.').removesuffix('.partial')}"
    for place in data_digests(root):
        if path.is_relative_to((root / place).resolve()):
            return f"bring it back with: dvc checkout --force {place}"
    return "import it again with: synfer import" if path.is_relative_to(workspace.data.resolve()) else "bring it back from where it came"


def _made_at_once(path: Path) -> Path:
    """The folder above a file of the studies that is made as a whole: `cells/HASH`, `pool/HASH/STAGE`, or a stage of a block of faces."""
    parts = path.parent.parts
    in_pool = parts[:1] == ("pool",)
    depth = 5 if in_pool and len(parts) > 2 and parts[2].startswith("faces-") else 3 if in_pool else 2
    return Path(*parts[:depth])
