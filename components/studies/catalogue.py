"""The studies by name, and what runs a cell."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from components.studies.bench import Bench
from components.studies.cell import Cell, Outcome
from components.studies.division import StudyError
from components.studies.study import Study
from synfer.vocabulary import unknown

NAMES = ("scaling", "ablation", "low_data", "representation", "few_shot", "zero_shot")


def find_study(name: str) -> Study:
    """The study of this name; raises StudyError with the known ones."""
    if name not in NAMES:
        raise StudyError(unknown("study", name, NAMES))
    study: Study = import_module(f"components.studies.{name}").STUDY
    return study


def run_kind(cell: Cell, bench: Bench, work: Path) -> Outcome:
    """Run a cell by the module that its kind names; `work` is a folder that an interrupted call leaves to the next one."""
    outcome: Outcome = import_module(f"components.studies.{cell.kind}").run(cell, bench, work)
    return outcome
