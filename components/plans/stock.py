"""What releases hold of a plan already: their manifests are streamed, no image is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.plans.cells import Cell, shows_what_was_asked
from components.plans.file import Plan
from components.workspace import Workspace
from synfer.manifest import FILE_NAME, ManifestError
from synfer.vocabulary import ATTRIBUTES

_NEEDED = ("sample_id", "expression", "aus", "label", "action")
_USED = (*_NEEDED, "plan_cell", "compound", *(f"attr_{name}" for name in ATTRIBUTES))


@dataclass
class Stock:
    """Faces by cell: those `there` are kept and labelled as asked, `rejected` ones are not.

    `begun` is the first index of a cell (name) that no face of the run's seed in these releases has.
    """

    cells: tuple[Cell, ...]
    there: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    begun: Counter[str] = field(default_factory=Counter)

    def missing(self, cell: Cell) -> int:
        """How many faces of a cell are still to be drawn."""
        return max(cell.count - self.there[cell.name], 0)

    @property
    def total_missing(self) -> int:
        """How many faces of all cells are still to be drawn."""
        return sum(self.missing(cell) for cell in self.cells)

    def table(self) -> pd.DataFrame:
        """A row a cell: cell, asks_for, asked, there, rejected, missing."""
        rows = [
            (cell.name, cell.words, cell.count, self.there[cell.name], self.rejected[cell.name], self.missing(cell)) for cell in self.cells
        ]
        return pd.DataFrame(rows, columns=["cell", "asks_for", "asked", "there", "rejected", "missing"])

    def count(self, row: Mapping[str, Any]) -> None:
        """Count a rectified row for the cell that it was drawn for, else for the first one of its kind that is not yet full."""
        cells = [cell for cell in self.cells if cell.holds(row)]
        if not cells:
            return
        open_first = sorted(cells, key=lambda cell: (cell.name != row.get("plan_cell"), self.missing(cell) == 0))
        (self.there if shows_what_was_asked(row) else self.rejected)[open_first[0].name] += 1


def take_stock(plan: Plan, releases: Sequence[Path], *, seed: int | str) -> Stock:
    """Count what the release folders hold of a plan; a sample that two of them have counts once.

    Raises ManifestError naming a manifest that cannot be read or is none of a release.
    """
    stock = Stock(plan.cells)
    numbered = re.compile(rf"synthetic-{seed}-({'|'.join(re.escape(cell.name) for cell in plan.cells)})-(\d+)")
    seen: set[str] = set()
    for row in _rows(releases):
        if row["sample_id"] in seen:
            continue
        seen.add(row["sample_id"])
        if match := numbered.fullmatch(row["sample_id"]):
            stock.begun[match[1]] = max(stock.begun[match[1]], int(match[2]) + 1)
        stock.count(row)
    return stock


def find_releases(names: Iterable[str], root: Path) -> list[Path]:
    """The folders of releases, by their names or paths, each once; raises WorkspaceError for an unknown one."""
    return list(dict.fromkeys(Workspace(root).release(name) for name in names))


def _rows(releases: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for folder in releases:
        path = folder / FILE_NAME
        try:
            with pq.ParquetFile(path) as file:
                there = set(file.schema_arrow.names)
                lacking = [name for name in _NEEDED if name not in there]
                if lacking:
                    raise ManifestError(f"{path} has no column {lacking[0]!r}; only a release with rectified labels counts")
                for batch in file.iter_batches(batch_size=1024, columns=[name for name in _USED if name in there]):
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise ManifestError(f"{path} cannot be read: {error}") from error
