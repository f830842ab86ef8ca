"""A cell of a study: one arm with one seed. Its folder is named by a hash of all that its result depends on: one run serves all studies.

The folder `artifacts/studies/cells/<hash>/` holds `cell.json` (what it is), `metrics.json` (figures as {value, low, high, n}) and
`predictions.parquet`: a row a test face with `sample_id`, `truth` and `p_<class>`, or with how often it was right and
asked, `hits_<measure>` and `asked_<measure>`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from components.record import Metric
from synfer.files import whole_folder, write_json

CELL, METRICS, PREDICTIONS = "cell.json", "metrics.json", "predictions.parquet"
_DIGITS = 16  # of the hash


@dataclass(frozen=True)
class Part:
    """Some training faces: `count` of the labelled real ones, the unlabelled real ones, or the synthetic ones drawn as `drawn` says."""

    faces: str
    count: int
    drawn: str = ""

    def __post_init__(self) -> None:
        assert self.faces in (LABELLED, UNLABELLED, SYNTHETIC), self.faces
        assert bool(self.drawn) == (self.faces == SYNTHETIC), "how synthetic faces were drawn must be said, of them alone"


LABELLED, UNLABELLED, SYNTHETIC = "labelled", "unlabelled", "synthetic"


@dataclass(frozen=True)
class Cell:
    """One arm with one seed: `kind` is the module of `components.studies` that runs it, `settings` what it does beside its `parts`."""

    study: str
    arm: str
    repeat: int
    kind: str
    parts: tuple[Part, ...]
    settings: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What people read."""
        return f"{self.arm}, seed {self.repeat}"

    def digest(self, surroundings: Mapping[str, Any]) -> str:
        """Hash of the cell's settings and of what else its result depends on."""
        text = json.dumps([self.describe(), surroundings], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]

    def describe(self) -> dict[str, Any]:
        """What the cell does, without its name: arms of the same content share a hash."""
        return {"kind": self.kind, "repeat": self.repeat, "parts": [asdict(part) for part in self.parts], "settings": dict(self.settings)}


@dataclass(frozen=True)
class Outcome:
    """What a cell found: figures and rows of predictions."""

    metrics: Mapping[str, Metric]
    predictions: pd.DataFrame


def is_finished(folder: Path) -> bool:
    """Whether a cell's result is there; it appears whole or not at all."""
    return (folder / METRICS).is_file()


def write_outcome(outcome: Outcome, cell: Cell, surroundings: Mapping[str, Any], folder: Path) -> None:
    """Write a cell's result, whole or not at all."""
    with whole_folder(folder) as work:
        write_json(work / CELL, {"arm": cell.arm, **cell.describe(), "surroundings": surroundings})
        write_json(work / METRICS, {key: asdict(metric) for key, metric in outcome.metrics.items()})
        outcome.predictions.to_parquet(work / PREDICTIONS, index=False)


def read_outcome(folder: Path) -> Outcome:
    """The result of a finished cell."""
    metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return Outcome({key: Metric(**value) for key, value in metrics.items()}, pd.read_parquet(folder / PREDICTIONS))
