"""The dataset registry `data.dvc`: an entry a dataset, its files in DVC's cache.

The embedded corpus names the remote `seed` inside the repository; a release names none, so that it goes to the user's own default remote
and the repository never grows by accident.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from components.lineage import REGISTRY, data_digests
from components.workspace import Workspace
from synfer.errors import SynferError
from synfer.files import locked, whole_file

_ATTEMPTS, _PAUSE = 5, 3.0  # DVC itself waits three seconds for its lock and has no option for more


class DataRegistryError(SynferError):
    """DVC could not take a dataset; the message holds DVC's own."""


def track(workspace: Workspace, folder: Path) -> str:
    """Enter a dataset folder of the project into `data.dvc`, or renew its entry; returns DVC's digest of it.

    Not for stages that DVC runs: it holds its lock then. Raises DataRegistryError, with `data.dvc` as it was, if DVC refuses.
    """
    path, place = workspace.root / REGISTRY, folder.relative_to(workspace.root).as_posix()
    with project_lock(workspace):
        before = path.read_text(encoding="utf-8") if path.is_file() else "outs: []\n"
        entries = yaml.safe_load(before)
        if place not in {out["path"] for out in entries["outs"]}:
            _write(path, {**entries, "outs": [*entries["outs"], {"path": place}]})
        try:
            _commit(workspace.root, place)
        except DataRegistryError:
            _write(path, yaml.safe_load(before))
            raise
    return data_digests(workspace.root)[place]


def project_lock(workspace: Workspace) -> AbstractContextManager[int]:
    """One call of DVC that writes, of all processes of a project on this machine; the others wait. Yields the lock's descriptor."""
    return locked(workspace.root / ".dvc" / "tmp" / "synfer.lock")


def _write(path: Path, entries: dict[str, Any]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(entries, sort_keys=False), encoding="utf-8")


def _commit(root: Path, place: str) -> None:
    run_dvc(root, "commit", "--force", place, doing=f"commit {place}")


def run_dvc(root: Path, *arguments: str, doing: str) -> str:
    """What a DVC command prints, called again while another one holds DVC's lock; raises DataRegistryError naming what it was `doing`."""
    command = [sys.executable, "-m", "dvc", *arguments]
    for attempt in range(_ATTEMPTS):
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})
        if done.returncode == 0:
            return done.stdout
        if "lock" not in done.stderr or attempt == _ATTEMPTS - 1:
            break
        time.sleep(_PAUSE)
    raise DataRegistryError(f"dvc could not {doing}: {' '.join(done.stderr.split())}")
