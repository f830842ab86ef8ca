"""The journal of a pipeline run: what an interrupted run has finished is taken over, and nothing else is."""

from __future__ import annotations

import json
import os

import pytest

from components import journal
from components.journal import Journal, StuckError
from components.partial import open_partial
from components.workspace import Workspace


@pytest.fixture
def interrupted(workspace: Workspace) -> Workspace:
    """A project in which a run has finished stage corpus, MLflow has got its metrics, and then the run was killed."""
    (workspace.stage("corpus") / "test").mkdir(parents=True)
    (workspace.stage("corpus") / "test" / "manifest.parquet").write_bytes(b"rows")
    run = Journal(workspace)
    run.open("run-1")
    run.finished("corpus", "settings and inputs")
    run.logged("corpus")
    return workspace


def test_a_finished_stage_is_taken_over_by_the_run_after_a_kill(interrupted: Workspace) -> None:
    rerun = Journal(interrupted)
    assert rerun.has("corpus", "settings and inputs")
    assert rerun.is_logged("corpus")
    assert rerun.interrupted == "run-1"
    assert not rerun.has("corpus", "other settings")
    assert not rerun.has("generator", "settings and inputs")


def test_a_finished_stage_whose_file_was_cut_off_is_made_again(interrupted: Workspace) -> None:
    file = interrupted.stage("corpus") / "test" / "manifest.parquet"
    status = file.stat()
    file.write_bytes(b"row")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not Journal(interrupted).has("corpus", "settings and inputs")


def test_a_stage_whose_code_has_changed_is_made_again(interrupted: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "code_digest", lambda: "repaired")
    assert not Journal(interrupted).has("corpus", "settings and inputs")


def test_a_run_that_has_completed_is_not_continued_but_by_one_that_waited_for_it(interrupted: Workspace) -> None:
    Journal(interrupted).completed()
    assert not Journal(interrupted).has("corpus", "settings and inputs")
    assert Journal(interrupted).interrupted == ""
    assert Journal(interrupted, waited=True).has("corpus", "settings and inputs")
    assert Journal(interrupted, waited=True).interrupted == ""


def test_a_journal_that_was_cut_off_takes_nothing_over(interrupted: Workspace) -> None:
    (interrupted.artifacts / journal.NAME).write_text('{"complete": fal')
    assert not Journal(interrupted).has("corpus", "settings and inputs")


def test_a_stage_that_gets_no_further_is_begun_five_times_and_one_that_does_for_ever(workspace: Workspace) -> None:
    partial = open_partial(workspace.stage("synthesis"), "same")
    for number in range(8):
        Journal(workspace).begin("synthesis", "same")
        (partial / f"images-{number:05d}.parquet").touch()
    for _ in range(5):
        Journal(workspace).begin("synthesis", "same")
    with pytest.raises(StuckError, match="stage synthesis was killed 5 times in a row without getting further"):
        Journal(workspace).begin("synthesis", "same")
    Journal(workspace).begin("synthesis", "other settings")


def test_an_error_that_somebody_can_read_is_no_kill(workspace: Workspace) -> None:
    for _ in range(12):
        run = Journal(workspace)
        run.begin("synthesis", "same")
        run.failed()
    assert json.loads((workspace.artifacts / journal.NAME).read_text())["begun"] == {}
