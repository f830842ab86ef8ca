"""`synfer compare`: two runs against each other, from the predictions that they left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project

if TYPE_CHECKING:
    from rich.table import Table

    from components.measure.comparison import Comparison

_PLACE = "Predictions: a Parquet file, FOLDER:TRAINING_SET, MLFLOW_RUN:TRAINING_SET, or a training set of artifacts/evaluation."


def compare(
    a: Annotated[str, typer.Argument(help=_PLACE)],
    b: Annotated[str, typer.Argument(help="What it is compared with, in the same forms.")],
    out: Annotated[Path | None, typer.Option(help="Also write everything as JSON.")] = None,
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Compare two classifiers on the images that both rated: metrics, and their paired difference with its bootstrap interval.

    Both must have rated the same images with the same truth.

    [bold]Examples[/bold]

    synfer compare real+synthetic real

    synfer compare artifacts/evaluation:real ../other/artifacts/evaluation:real --out comparison.json

    synfer compare 0f3c9a6f2b1e4d5c8a7b6c5d4e3f2a1b:real synthetic --set evaluation.bootstrap=10000
    """
    workspace, settings = load_project(config, set_)
    from components.measure.comparison import compare as measure
    from components.measure.predictions import find_predictions

    section = settings.evaluation
    ours, theirs = (find_predictions(name, workspace) for name in (a, b))
    found = measure(ours, theirs, resamples=section.bootstrap, confidence=section.confidence, seed=settings.common.seed)
    console().print(_table(found, section.confidence))
    test = found.test
    console().print(f"McNemar: {test.only_first} images only A has right, {test.only_second} only B; p = {test.p_value:.3g}")
    if out is not None:
        console().print(str(found.write(out)))


def _table(found: Comparison, confidence: float) -> Table:
    from rich.table import Table

    frame = found.table()
    table = Table(title=f"A: {found.ours}, B: {found.theirs}; {found.n} images, {confidence:.0%} intervals", title_justify="left")
    for name in frame.columns:
        table.add_column(name, justify="left" if name in ("metric", "verdict") else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*row)
    return table
