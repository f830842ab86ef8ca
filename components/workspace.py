"""The folders of a project: where the stages find what they read and leave what they make."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from synfer.errors import SynferError
from synfer.files import locked
from synfer.vocabulary import unknown

_INSIDE = "SYNFER_INSIDE"  # root of the project whose stages the caller of this process has for itself


class WorkspaceError(SynferError):
    """No project here, or a folder of it that is missing."""


@dataclass(frozen=True)
class Workspace:
    """A project folder, the one that holds `params.yaml`; its stages lie in `artifacts/`, or in `kept` where something has its own."""

    root: Path
    kept: Path | None = None

    @classmethod
    def find(cls, start: Path) -> Workspace:
        """The workspace of the nearest folder at or above `start` that holds `params.yaml`; raises WorkspaceError if there is none."""
        start = start.resolve()
        for folder in (start, *start.parents):
            if (folder / "params.yaml").is_file():
                return cls(folder)
        raise WorkspaceError(f"no params.yaml in {start} or above it; run synfer inside the project")

    @property
    def params(self) -> Path:
        """The configuration of the laptop run."""
        return self.root / "params.yaml"

    @property
    def artifacts(self) -> Path:
        """One folder a finished stage."""
        return self.kept or self.root / "artifacts"

    @property
    def studies(self) -> Path:
        """What the studies keep: shared faces and a folder a study."""
        return self.root / "artifacts" / "studies"

    @property
    def reports(self) -> Path:
        """What people read: `report.html`, `metrics.json`, Data Docs."""
        return self.root / "reports"

    @property
    def mlruns(self) -> Path:
        """MLflow's database and files."""
        return self.root / "mlruns"

    @property
    def data(self) -> Path:
        """The dataset registry that `data.dvc` tracks."""
        return self.root / "data"

    def with_artifacts(self, folder: Path) -> Workspace:
        """The same project, with its stages in another folder."""
        return Workspace(self.root, folder)

    def exclusive(self, *, on_wait: Callable[[], None] | None = None) -> AbstractContextManager[int | None]:
        """Be the only one on this machine that writes stages; `on_wait` is called once if another run has them now.

        A process that the holder has started with `environment_inside` does not wait for it. Yields the lock's descriptor, if it has one.
        """
        return nullcontext() if os.environ.get(_INSIDE) == str(self.root.resolve()) else locked(self.root, on_wait=on_wait)

    def environment_inside(self) -> dict[str, str]:
        """The environment of a program that the holder of `exclusive` starts, and waits for."""
        return {**os.environ, _INSIDE: str(self.root.resolve())}

    def stage(self, name: str) -> Path:
        """Folder of a finished stage."""
        return self.artifacts / name

    def release(self, name: str) -> Path:
        """The folder of a release by its name under `data/synthetic`, or by its path; raises WorkspaceError with the known names."""
        folders = {path.name: path for path in sorted((self.data / "synthetic").glob("*/")) if not path.name.startswith(".")}
        found = folders.get(name, self.resolve(name))
        if not name or not found.is_dir():
            raise WorkspaceError(unknown("release", name, folders or ["none"]))
        return found

    def resolve(self, path: str) -> Path:
        """A path of the configuration, relative to the project unless absolute."""
        return (self.root / path).resolve()
