"""What a study will cost: faces to draw, trainings, and the time that the configuration's rates make of them. An estimate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from components.studies import supervised
from components.studies.cell import Cell
from components.studies.pool import Job
from synfer.config import Studies


@dataclass(frozen=True)
class Cost:
    """Faces to draw, images that trainings go through, number of trainings, and seconds on the machine that the rates are of."""

    drawn: int
    passes: int
    trainings: int
    seconds: float

    @property
    def words(self) -> str:
        """For people."""
        hours = self.seconds / 3600
        time = f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:,.1f} hours"
        return f"{self.drawn:,} faces to draw, {self.trainings:,} trainings on {self.passes:,} images in all: about {time}"


def cost_of(jobs: Iterable[Job], cells: Iterable[Cell], rates: Studies) -> Cost:
    """Cost of what is still to do."""
    jobs, cells = list(jobs), list(cells)
    drawn, adapted = sum(job.draws for job in jobs), sum(job.adapts for job in jobs)
    passes = {kind: sum(passes_of(cell) for cell in cells if cell.kind == kind) for kind in {cell.kind for cell in cells}}
    pretrained = sum(job.trains for job in jobs)
    seconds = drawn / rates.drawn_per_second + adapted / rates.adapted_per_second + pretrained / rates.pretrained_per_second
    for kind, images in passes.items():
        seconds += images / (rates.trained_per_second if kind == supervised.KIND else rates.pretrained_per_second)
    trainings = sum(passes_of(cell) > 0 for cell in cells) + sum(job.trains > 0 or job.adapts > 0 for job in jobs)
    return Cost(drawn, adapted + pretrained + sum(passes.values()), trainings, seconds)


def passes_of(cell: Cell) -> int:
    """Images that a cell's own training goes through."""
    return int(cell.settings.get("rows", 0) * cell.settings.get("epochs", 0))
