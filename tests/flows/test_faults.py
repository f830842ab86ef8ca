"""A killed flow is continued by the next one, two at once do nothing twice, and the server's automations find dead runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import mlflow
import pytest
from prefect.client.schemas.objects import StateType

from benchmarks.faults import copy_project
from components import tracking
from components.journal import NAME
from components.workspace import Workspace
from flows.zombies import CONTINUE, FIND, automations

COMMAND = [sys.executable, "-m", "flows.cli", "flow", "pipeline", "--config", "smoke", "--to", "fer_models"]


def environment() -> dict[str, str]:
    """This interpreter first, one thread, Prefect's home in the copy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def logged(project: Path) -> list[str]:
    """Stages that the journal of a project has finished and logged."""
    try:
        stages = json.loads((project / "artifacts" / NAME).read_text())["stages"]
    except FileNotFoundError:
        return []
    return [name for name, entry in stages.items() if entry["logged"]]


def waiting() -> set[int]:
    """Numbers of the processes that wait for a lock on a file, by Linux's table of locks."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return {int(line[5]) for line in lines if "->" in line}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_flow_is_continued_and_of_two_at_once_one_keeps_what_the_other_made(root: Path, tmp_path: Path) -> None:
    project = copy_project(root, tmp_path / "project")
    with subprocess.Popen(COMMAND, cwd=project, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as flow:
        while "corpus" not in logged(project):
            assert flow.poll() is None, "the flow ended by itself"
            time.sleep(0.02)
        flow.send_signal(signal.SIGKILL)
    manifest = project / "artifacts" / "corpus" / "test" / "manifest.parquet"
    before = manifest.stat().st_mtime_ns
    with Workspace(project).exclusive():  # until both wait, so that both are there at once on any machine
        both = [subprocess.Popen(COMMAND, cwd=project, env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(2)]
        while waiting() & {flow.pid for flow in both} != {flow.pid for flow in both}:
            assert [flow.poll() for flow in both] == [None, None]
            time.sleep(0.05)
    said = [flow.communicate()[0] for flow in both]
    assert [flow.returncode for flow in both] == [0, 0]
    assert manifest.stat().st_mtime_ns == before
    assert all(" 1/13 corpus         kept " in text for text in said)
    assert any(" 2/13 fer_models     kept " in text for text in said)
    tracking.connect(Workspace(project))
    runs = mlflow.MlflowClient().search_runs(["1"])
    stages = Counter(run.data.tags["stage"] for run in runs if run.info.status == "FINISHED" and "stage" in run.data.tags)
    assert stages == {"corpus": 1, "fer_models": 1}
    parents = Counter(run.info.status for run in runs if "stage" not in run.data.tags)
    assert parents == {"KILLED": 1, "FINISHED": 2}


def test_a_run_without_heartbeat_crashes_and_a_crashed_one_is_put_in_the_queue_again() -> None:
    find, again = automations()
    assert (find.name, again.name) == (FIND, CONTINUE)
    assert {"prefect.flow-run.heartbeat", "prefect.flow-run.Completed", "prefect.flow-run.Crashed"} <= find.trigger.expect
    assert [action.state for action in find.actions] == [StateType.CRASHED]
    assert again.trigger.expect == {"prefect.flow-run.Crashed"}
    assert [(action.state, action.name) for action in again.actions] == [(StateType.SCHEDULED, "AwaitingRetry")]
