"""One run of a study: what is to do, the cells one by one, and what comes of them. The flow and the tests both go through it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from components import tracking
from components.record import Metric
from components.studies.bench import Bench
from components.studies.catalogue import find_study, run_kind
from components.studies.cell import PREDICTIONS, Cell, is_finished, read_outcome, write_outcome
from components.studies.cost import Cost, cost_of
from components.studies.division import StudyError, sizes
from components.studies.encoders import features_folder
from components.studies.pool import Job, Pool
from components.studies.publish import Published, publish
from components.studies.results import Results
from components.workspace import Workspace
from synfer.config import Config

_CELLS, _RESULT = "cells", "result"


class StudyRun:
    """A study with its configuration; `place` is where its report goes below `reports/studies`."""

    def __init__(self, name: str, config: Config, workspace: Workspace, *, place: str = "", preset: str = "laptop") -> None:
        """Raises StudyError if the study is unknown or the corpus is missing."""
        self.study, self.config, self.workspace, self.place, self.preset = find_study(name), config, workspace, place, preset
        self.sizes = sizes(config, workspace.resolve(config.corpus.source))
        self.pool = Pool(config, workspace, block=self.sizes.labelled)
        self.bench = Bench(config, workspace, self.pool)
        self.cells = self.study.all_cells(config, self.sizes)

    @property
    def folder(self) -> Path:
        """What is the study's own."""
        return self.workspace.studies / self.study.name

    def folder_of(self, cell: Cell) -> Path:
        """The folder of a cell's result, which studies share: real faces alone are an arm of several."""
        return self.workspace.studies / _CELLS / cell.digest(self.bench.surroundings(cell))

    @property
    def pending(self) -> list[Cell]:
        """Cells without a result."""
        return [cell for cell in self.cells if not is_finished(self.folder_of(cell))]

    @property
    def last_finished(self) -> float:
        """When a cell was last finished, of whatever study (seconds since 1970); 0 if none was."""
        return max((folder.stat().st_mtime for folder in (self.workspace.studies / _CELLS).glob("[!.]*")), default=0.0)

    @property
    def jobs(self) -> list[Job]:
        """What must be made before the pending cells can run."""
        return self.pool.jobs(self.pending)

    @property
    def cost(self) -> Cost:
        """Cost of what is still to do; an encoder that several cells share is trained once."""
        trainings: dict[object, Cell] = {}
        for cell in self.pending:
            place = features_folder(cell, self.bench) if "encoder" in cell.settings else self.folder_of(cell)
            if not place.is_dir():
                trainings.setdefault(place, cell)
        return cost_of(self.jobs, trainings.values(), self.config.studies)

    @contextmanager
    def open(self, *, tags: dict[str, str] | None = None) -> Iterator[None]:
        """The study's run in MLflow; raises StudyError if another study is running in this project."""
        self.workspace.studies.mkdir(parents=True, exist_ok=True)
        with (self.workspace.studies / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StudyError(f"another study is running in {self.workspace.root}; studies share faces, so wait for it") from None
            name = f"study {self.study.name} {self.preset}"
            tags = {"study": self.study.name, "preset": self.preset, **(tags or {})}
            with tracking.pipeline_run(self.workspace, name, parameters=self.config.model_dump(mode="json"), tags=tags):
                yield

    def run_cell(self, cell: Cell) -> dict[str, Metric]:
        """The figures of a cell, which is run unless its result is there; a run of its own in MLflow either way."""
        folder, surroundings = self.folder_of(cell), self.bench.surroundings(cell)
        reused = is_finished(folder)
        tags = {"stage": f"study {self.study.name}", "arm": cell.arm, "cell": folder.name, "reused": str(reused).lower()}
        with tracking.stage_run(self.workspace, cell.title, parameters={"cell": cell.describe()}, tags=tags):
            if not reused:
                work = folder.with_name(f".{folder.name}.work")
                work.mkdir(parents=True, exist_ok=True)
                write_outcome(run_kind(cell, self.bench, work), cell, surroundings, folder)
                shutil.rmtree(work)
            outcome = read_outcome(folder)
            tracking.log_metrics({key: metric.value for key, metric in outcome.metrics.items()})
            tracking.log_file(folder / PREDICTIONS, "predictions")
        return dict(outcome.metrics)

    def results(self) -> Results:
        """What the finished cells say; raises StudyError if one is missing."""
        if missing := self.pending:
            raise StudyError(f"{len(missing)} cells of study {self.study.name} are not finished, the first is {missing[0].title}")
        outcomes = [read_outcome(self.folder_of(cell)) for cell in self.cells]
        return Results.of(self.cells, outcomes, self.config.evaluation, seed=self.config.common.seed)

    def finish(self) -> Published:
        """Write figures, page and result file, and log them to the study's run."""
        source = self.workspace.resolve(self.config.corpus.source)
        corpus = source.relative_to(self.workspace.root).as_posix() if source.is_relative_to(self.workspace.root) else source.name
        facts = {"preset": self.preset, "corpus": corpus, "sizes": asdict(self.sizes)}
        published = publish(
            self.study, self.results(), self.config, self.workspace, facts=facts, place=self.place, models=self.pool.base,
            out=self.folder / _RESULT,
        )  # fmt: skip
        tracking.log_record(published.record)
        return published
