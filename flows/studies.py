"""Studies as a Prefect flow: the shared faces and the cells are its tasks; a killed study goes on with what is missing.

Tasks hold no logic: each runs a job or a cell of `components.studies` and says what came of it. What is finished is known by its folder,
hence `NO_CACHE`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from pydantic import Field

from components.record import Metric
from components.studies.cell import Cell
from components.studies.pool import Job
from components.studies.run import StudyRun
from flows.artifacts import ProgressBar, stage_page
from flows.form import Overlay, Override, Preset, StudyName
from flows.project import console, shown
from flows.starts import check_starts
from flows.study_run import open_study

_SHOWN = ("uar", "accuracy", "basic 1-shot")  # the first of these that a cell measured is shown


@task(name="faces", task_run_name="{job.title}", cache_policy=NO_CACHE, persist_result=False)
def make(job: Job) -> None:
    """Make what several cells need: models, generated faces, labels."""
    job.run()


@task(name="cell", task_run_name="{cell.title}", cache_policy=NO_CACHE, persist_result=False)
def measure(run: StudyRun, cell: Cell) -> dict[str, Metric]:
    """Run a cell, or read its result where it is finished."""
    return run.run_cell(cell)


@task(name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish(run: StudyRun) -> Path:
    """Write figures with their intervals, table, plot and page."""
    published = run.finish()
    key = f"study-{run.study.name.replace('_', '-')}"
    create_markdown_artifact(markdown=stage_page(run.study.title, published.record), key=key, description=run.study.question)
    return published.page


def _run_name() -> str:
    asked = flow_run.get_parameters()
    return f"{asked['name']} {asked.get('preset', 'laptop')}"


@flow(name="study", flow_run_name=_run_name, log_prints=False)
def study(
    name: StudyName,
    preset: Preset = "laptop",
    seeds: Annotated[int, Field(ge=0)] = 0,
    corpus: str = "",
    overlays: list[Overlay] = [],  # noqa: B006 - an empty list in Prefect's form; nobody changes it
    overrides: list[Override] = [],  # noqa: B006
) -> None:
    """A study: shared faces, cells, results. Cells that an earlier run has finished are not repeated.

    Args:
        name: Which question is asked; docs/studies.md has them all.
        preset: Its size. smoke takes a minute, laptop the configuration as it is, paper a GPU and Stable Diffusion 1.5.
        seeds: Trainings of every arm; 0 leaves the number to the configuration.
        corpus: A dataset folder on the worker's machine instead of the configured one, on which models are trained; empty for none.
        overlays: Files of configs/ on top of the preset; later ones win.
        overrides: Single values, such as studies.steps=3000; they win over the overlays.
    """
    place = Path(corpus) if corpus else None
    run = open_study(name, preset=preset, seeds=seeds or None, corpus=place, overlays=overlays, overrides=overrides)
    check_starts(progress=run.last_finished)
    _Told(run).go()


class _Told:
    """A study run that says on the terminal and on Prefect's page how far it is."""

    def __init__(self, run: StudyRun) -> None:
        self._run, self._console, self._progress = run, console(), ProgressBar()
        self._jobs = run.jobs
        self._total, self._done = len(self._jobs) + len(run.cells), 0

    def go(self) -> None:
        """Run what is to do, in order."""
        started = time.perf_counter()
        self._console.print(f"[bold]{self._run.study.title}[/bold]: {self._run.cost.words} (an estimate)")
        with self._run.open(tags={"prefect.flow_run": str(flow_run.get_id())}):
            for job in self._jobs:
                self._say(job.title, partial(make, job))
            for cell in self._run.cells:
                self._say(cell.title, partial(measure, self._run, cell))
            page = publish(self._run)
        minutes, seconds = divmod(round(time.perf_counter() - started), 60)
        self._console.print(f"\n[bold]done in {minutes} min {seconds:02d} s[/bold]\n  page     {shown(page, self._run.workspace.root)}")
        self._console.print(f"  figures  {shown(page.with_suffix('.json'), self._run.workspace.root)}")

    def _say(self, title: str, work: Callable[[], dict[str, Metric] | None]) -> None:
        """Do a piece of work and tell its seconds and, of a cell, what it measured."""
        started = time.perf_counter()
        found = work()
        self._done += 1
        headline = next((f"{key} {found[key].value:.3f}" for key in _SHOWN if key in found), "") if found else ""
        line = f"{self._done:3d}/{self._total} {title:<44} {time.perf_counter() - started:6.1f} s   {headline}"
        self._console.print(line, markup=False)
        get_run_logger().info(line)
        self._progress.advance(self._done / self._total)
