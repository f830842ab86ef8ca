"""A killed flow is continued by the next one, two at once do nothing twice, and the server's automations find dead runs."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
import yaml
from prefect.client.schemas.objects import State, StateType

from benchmarks.faults import copy_project
from components import tracking
from components.journal import NAME
from components.workspace import Workspace
from flows.starts import kills_in_a_row
from flows.zombies import CONTINUE, FIND, GIVE_UP, automations

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
    find, again, give_up = automations()
    assert (find.name, again.name, give_up.name) == (FIND, CONTINUE, GIVE_UP)
    assert {"prefect.flow-run.heartbeat", "prefect.flow-run.Completed", "prefect.flow-run.Crashed"} <= find.trigger.expect
    assert [action.state for action in find.actions] == [StateType.CRASHED]
    assert again.trigger.expect == {"prefect.flow-run.Crashed"}
    assert [(action.state, action.name) for action in again.actions] == [(StateType.SCHEDULED, "AwaitingRetry")]
    assert give_up.trigger.expect == {f"prefect.flow-run.{action.name}" for action in again.actions}, "after the crash, never before"
    assert "prefect.run-count" in give_up.trigger.for_each, "starts that reached the flow are not counted"
    assert [action.state for action in give_up.actions] == [StateType.FAILED], "which no worker that tells of a crash takes back"


def test_kills_are_counted_since_the_run_got_further_or_was_started_by_a_person() -> None:
    names = ("Running", "Crashed", "Failed", "Running", "Crashed", "Running", "Crashed", "Running")
    states = [State(type=name.upper(), timestamp=datetime.fromtimestamp(number, UTC)) for number, name in enumerate(names, start=1)]
    assert kills_in_a_row(states[::-1]) == 2
    assert kills_in_a_row(states[:2]) == 1
    assert kills_in_a_row(states, progress=6.0) == 1
    assert kills_in_a_row(states, progress=8.0) == 0


def test_every_flow_begins_with_the_count_of_its_starts(root: Path) -> None:
    flows = {entry["entrypoint"] for entry in yaml.safe_load((root / "prefect.yaml").read_text())["deployments"]}
    for file, name in (entrypoint.split(":") for entrypoint in flows):
        (found,) = (node for node in ast.parse((root / file).read_text()).body if isinstance(node, ast.FunctionDef) and node.name == name)
        assert any("check_starts(" in ast.unparse(line) for line in found.body[:4]), file
