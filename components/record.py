"""What a stage leaves for people: `metrics.json`, `figures/*.png` with `figures.json`, `tables.json`, beside its artefacts.

The report page, MLflow and `reports/metrics.json` are made from these files, so a stage knows none of the three.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from components.plots import save_picture
from synfer.files import write_json


@dataclass(frozen=True)
class Metric:
    """A measured value, its interval where one was computed, and the number of samples behind it."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Picture:
    """A figure of a stage: file name under `figures/`, title, and what to see in it."""

    file: str
    title: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table of a stage, cells already formatted."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Record:
    """Collects a stage's metrics, figures and tables; `save` writes the index files."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.metrics: dict[str, Metric] = {}
        self.pictures: list[Picture] = []
        self.tables: list[Table] = []

    def metric(self, key: str, value: float, *, low: float | None = None, high: float | None = None, n: int | None = None) -> None:
        """Keep a metric under a flat key such as `generation/kid`."""
        self.metrics[key] = Metric(float(value), low, high, n)

    def figure(self, name: str, picture: Figure | Image.Image, *, title: str, caption: str) -> Path:
        """Write a matplotlib figure or an image as `figures/<name>.png`; returns the path."""
        path = save_picture(picture, self.out / "figures" / f"{name}.png")
        self.pictures.append(Picture(path.name, title, caption))
        return path

    def table(self, title: str, frame: pd.DataFrame) -> None:
        """Keep a table; floats are shown with three decimals."""
        rows = tuple(tuple(_cell(value) for value in row) for row in frame.itertuples(index=False))
        self.tables.append(Table(title, tuple(str(name) for name in frame.columns), rows))

    def save(self) -> None:
        """Write `metrics.json`, `figures.json` and `tables.json`."""
        write_json(self.out / "metrics.json", {key: asdict(metric) for key, metric in self.metrics.items()})
        write_json(self.out / "figures.json", [asdict(picture) for picture in self.pictures])
        write_json(self.out / "tables.json", [asdict(table) for table in self.tables])


def read_metrics(folder: Path) -> dict[str, Metric]:
    """The metrics that a stage left in its folder."""
    return {key: Metric(**value) for key, value in _read(folder / "metrics.json").items()}


def read_pictures(folder: Path) -> list[Picture]:
    """The figures that a stage left, in the order it made them; files lie in `folder/figures`."""
    return [Picture(**value) for value in _read(folder / "figures.json")]


def read_tables(folder: Path) -> list[Table]:
    """The tables that a stage left."""
    return [Table(value["title"], tuple(value["columns"]), tuple(map(tuple, value["rows"]))) for value in _read(folder / "tables.json")]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
