"""What a study is: a question, its cells, the differences that answer it, and what is drawn and said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from components.studies.cell import Cell
from components.studies.division import Sizes
from components.studies.results import Comparison, Results
from synfer.config import Config


@dataclass(frozen=True)
class TableOf:
    """A table of results: its arms, and measures by heading."""

    title: str
    arms: tuple[str, ...]
    measures: Mapping[str, str]


@dataclass(frozen=True)
class Study:
    """One study. `cells` lists one seed's cells, `measures` what the table shows, by its heading; `notes` are sentences above the plot."""

    name: str
    title: str
    question: str
    method: str
    measures: Mapping[str, str]
    cells: Callable[[Config, Sizes, int], list[Cell]]
    comparisons: Callable[[Results], list[Comparison]]
    figure: Callable[[Results, Config], Figure]
    notes: Callable[[Results, Config], list[str]] = lambda results, config: []
    tables: Callable[[Results], list[TableOf]] | None = None

    def all_cells(self, config: Config, sizes: Sizes) -> list[Cell]:
        """The cells of every seed, seed by seed, so that a killed study has whole comparisons first."""
        return [cell for repeat in range(config.studies.seeds) for cell in self.cells(config, sizes, repeat)]

    def tables_of(self, results: Results) -> list[TableOf]:
        """What the page shows: one table of all arms unless the study says otherwise."""
        whole = TableOf("On real test faces", tuple(results.arms), self.measures)
        return self.tables(results) if self.tables is not None else [whole]
