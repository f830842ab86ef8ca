"""`dvc repro` and `dvc metrics diff` for who wants their words: a flow, a test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from components.data_registry import project_lock
from components.workspace import Workspace
from synfer.errors import SynferError


class ReproError(SynferError):
    """`dvc repro` failed; the message holds its last words."""


def repro_lines(workspace: Workspace, *, force: bool = False) -> Iterator[str]:
    """Run `dvc repro` alone in the project and give its lines as they come; raises ReproError if it fails.

    Both locks are taken in the order of everybody else, stages before DVC: `synfer release`, which enters its files in DVC while it holds
    the stages, and this call would wait for each other for ever. The stages that DVC runs are told that their caller has the lock. DVC
    inherits both locks: where this process is killed, nobody else writes before DVC has ended too.
    """
    command = [sys.executable, "-m", "dvc", "repro", *(["--force"] if force else [])]
    last: list[str] = []
    with (
        workspace.exclusive() as stages,
        project_lock(workspace) as dvc,
        subprocess.Popen(
            command, cwd=workspace.root, env=workspace.environment_inside(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            pass_fds=[held for held in (stages, dvc) if held is not None],
        ) as running,
    ):  # fmt: skip
        assert running.stdout is not None
        for text in running.stdout:
            line = text.rstrip().rsplit("\r", 1)[-1]  # of a progress bar only its end
            if line:
                last = [*last[-4:], line]
                yield line
    if running.returncode:
        raise ReproError(f"dvc repro failed: {' / '.join(last)}")


def changed_metrics(workspace: Workspace) -> str:
    """Markdown table of the metrics that differ from the last commit; empty if none does, or without git."""
    command = [sys.executable, "-m", "dvc", "metrics", "diff", "--md"]
    return subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, check=False).stdout.strip()
