"""The commands that are measured, each in a fresh process that imports what the command itself imports and nothing else."""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa

from synfer.errors import SynferError

FORMATS = ("imagefolder", "webdataset", "parquet")
STAGES = ("synthesis", "rectification", "validation", "evaluation", "audit")
"""Stage folders from which a release is made."""


class StudyError(SynferError):
    """A release that is damaged, or an export that does not read back as the release."""


@dataclass(frozen=True)
class Used:
    """What a command took: peak of resident memory in MiB, and seconds without the start of Python."""

    peak_mb: float
    seconds: float


def in_own_process(work: Callable[[Path], None], root: Path) -> Used:
    """What `work(root)` takes in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, work, root).result()


def _measured(work: Callable[[Path], None], root: Path) -> Used:
    started = time.perf_counter()
    work(root)
    return Used(_peak_mb(), time.perf_counter() - started)


def _peak_mb() -> float:
    """High-water mark of this process; without /proc that of getrusage, which may be that of the process which started this one."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def import_(root: Path) -> None:
    """`synfer import folder`."""
    from components.imports.dataset import import_dataset

    import_dataset("folder", root / "photographs", root / "imported")


def release(root: Path) -> None:
    """What stage release writes."""
    from components.release import write_release
    from components.workspace import Workspace
    from synfer.config import load_config
    from synfer.files import whole_folder

    config = load_config(Workspace.find(Path.cwd()).params)
    with whole_folder(root / "release") as folder:
        write_release(config.release, **{name: root / name for name in STAGES}, root=root, folder=folder)


def verify(root: Path) -> None:
    """`synfer verify`; raises StudyError if anything is wrong."""
    from components.releases.verify import verify as verify_release

    found: list[str] = []
    verify_release(root / "release", lambda finding: found.append(str(finding)))
    if found:
        raise StudyError(f"{len(found)} things are wrong with the release, the first is: {found[0]}")


@dataclass(frozen=True)
class Export:
    """`synfer export`, all images."""

    to: str

    def __call__(self, root: Path) -> None:
        from components.export.write import export

        export(root / "release", root / self.to, to=self.to, with_rejected=True)


@dataclass(frozen=True)
class ReadBack:
    """An export read back; raises StudyError unless it has the rows of the release, split by split."""

    to: str

    def __call__(self, root: Path) -> None:
        from components.export.reader import read_export
        from components.releases.folder import iter_release

        splits = (iter_release(root / "release", split=split) for split in ("train", "val"))
        if digest(read_export(root / self.to)) != digest(table for split in splits for table in split):
            raise StudyError(f"the export to {self.to} does not read back as the release")


def digest(tables: Iterable[pa.Table]) -> str:
    """SHA-256 of all rows with all columns, in their order; it does not depend on how they are dealt to tables."""
    found = hashlib.sha256()
    for table in tables:
        for row in table.to_pylist():
            found.update(repr(sorted(row.items())).encode())
    return found.hexdigest()


COMMANDS: dict[str, Callable[[Path], None]] = {
    "import": import_,
    "release": release,
    "verify": verify,
    **{f"export {to}": Export(to) for to in FORMATS},
    **{f"read back {to}": ReadBack(to) for to in FORMATS},
}
