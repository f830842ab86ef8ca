"""What a study will cost: faces to draw, trainings, and the time that the configuration's rates make of them. An estimate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.studies.cell import Cell
from components.studies.encoders import SUPERVISED
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
        long = f"{hours:,.1f} hours" if hours >= 2 else f"{60 * hours:.0f} minutes"
        time = f"about {long}" if hours >= 0.05 else "less than three minutes"
        return f"{self.drawn:,} faces to draw, {self.trainings:,} trainings on {self.passes:,} images in all: {time}"


def cost_of(jobs: Iterable[Job], cells: Iterable[Cell], rates: Studies) -> Cost:
    """Cost of what is still to do; `cells` are those whose trainings are to be made, each training once."""
    jobs, cells = list(jobs), [cell for cell in cells if passes_of(cell)]
    drawn, adapted = sum(job.draws for job in jobs), sum(job.adapts for job in jobs)
    supervised_ones = sum(passes_of(cell) for cell in cells if SUPERVISED in (cell.kind, _encoder(cell).get("method")))
    others = sum(map(passes_of, cells)) - supervised_ones
    seconds = supervised_ones / rates.trained_per_second + others / rates.pretrained_per_second
    seconds += drawn / rates.drawn_per_second + adapted / rates.adapted_per_second
    return Cost(drawn, adapted + supervised_ones + others, len(cells) + sum(job.adapts > 0 for job in jobs), seconds)


def passes_of(cell: Cell) -> int:
    """Images that a cell's training goes through, its own or that of its encoder."""
    settings = _encoder(cell) or cell.settings
    return int(settings.get("rows", 0) * settings.get("epochs", 0) * settings.get("phases", 1))


def _encoder(cell: Cell) -> Mapping[str, Any]:
    """What makes the encoder that a cell looks at; empty where it trains a classifier of its own."""
    found: Mapping[str, Any] = cell.settings.get("encoder", {})
    return found
