"""The journal of a pipeline run, `artifacts/.pipeline.json`: what it has finished, so that the next run continues one that was interrupted.

A stage is taken over only while its settings, its code, its inputs and the files that it left are the same ones. A run that has completed
is not continued: the next one makes everything anew, unless it has waited for that very run.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from components.partial import fingerprint, partial_folder
from components.workspace import Workspace
from synfer.errors import SynferError
from synfer.files import sha256, write_json

NAME = ".pipeline.json"
_MOST_STARTS = 5
_EMPTY: dict[str, Any] = {"complete": False, "run": "", "stages": {}, "begun": {}}


class StuckError(SynferError):
    """A stage in which run after run was killed without having got any further."""


class Journal:
    """What the present pipeline run has finished, or took over from the one before; it is written at every change."""

    def __init__(self, workspace: Workspace, *, waited: bool = False) -> None:
        """Read what the run before has left; `waited` says that it was still running when this one was started."""
        self._workspace, self._path = workspace, workspace.artifacts / NAME
        found = _read(self._path)
        self._kept = dict(_EMPTY, stages={}, begun={}) if found["complete"] and not waited else found

    @property
    def interrupted(self) -> str:
        """Id of the MLflow run that was killed or failed before this one; empty if there is none to continue."""
        return "" if self._kept["complete"] else str(self._kept["run"])

    def open(self, run: str) -> None:
        """Begin a run, by the id that MLflow gave it."""
        self._write(run=run, complete=False)

    def begin(self, stage: str, made_from: str) -> None:
        """Count the starts of a stage; raises StuckError where so many in a row were killed without one more file of it."""
        before, files = self._kept["begun"], _files(partial_folder(self._workspace.stage(stage)))
        same = before.get("made_from") == made_from and before.get("files", -1) >= files
        starts = before.get("starts", 0) + 1 if same else 1
        if starts > _MOST_STARTS:
            raise StuckError(
                f"stage {stage} was killed {starts - 1} times in a row without getting further (is there enough memory?); "
                f"when that is mended, run the same again"
            )
        self._write(begun={"stage": stage, "made_from": made_from, "files": files, "starts": starts})

    def has(self, stage: str, made_from: str) -> bool:
        """Whether the stage is finished: made from the same, and its files are those it left."""
        entry = self._kept["stages"].get(stage, {})
        return entry == {**entry, "made_from": made_from, "code": code_digest(), "left": _left(self._workspace, stage)}

    def is_logged(self, stage: str) -> bool:
        """Whether MLflow has got what a finished stage measured."""
        return bool(self._kept["stages"].get(stage, {}).get("logged"))

    def finished(self, stage: str, made_from: str) -> None:
        """Remember a stage whose folder stands in its place."""
        self._enter(stage, {"made_from": made_from, "code": code_digest(), "left": _left(self._workspace, stage), "logged": False})

    def logged(self, stage: str) -> None:
        """Remember that MLflow has got what a finished stage measured."""
        self._enter(stage, {**self._kept["stages"].get(stage, {}), "logged": True})

    def failed(self) -> None:
        """The run ends with an error that somebody can read, and no kill is to be counted; what is finished stays for the next run."""
        with suppress(OSError):  # the disk may be what failed
            self._write(begun={})

    def completed(self) -> None:
        """The run has done all it was asked for."""
        self._write(complete=True, begun={})

    def _enter(self, stage: str, entry: dict[str, Any]) -> None:
        self._write(stages={**self._kept["stages"], stage: entry})

    def _write(self, **changes: Any) -> None:
        self._kept = {**self._kept, **changes}
        write_json(self._path, self._kept)


@cache
def code_digest() -> str:
    """SHA-256 of the Python files of `synfer` and `components`: a repaired stage is not taken over from before its repair."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for folder in ("synfer", "components") for path in (root / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()


def _left(workspace: Workspace, stage: str) -> str:
    folder = workspace.stage(stage)
    return fingerprint(stage, [folder]) if folder.is_dir() else "nothing"


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # none, or one that somebody has changed by hand: nothing is taken over
        return dict(_EMPTY, stages={}, begun={})
    return found
