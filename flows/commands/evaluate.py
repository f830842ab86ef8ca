"""`synfer evaluate`: a trained classifier on any dataset folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project, shown


def evaluate(
    model: Annotated[str, typer.Argument(help="Folder of a trained classifier, or an MLflow URI: models:/synfer-classifier@champion.")],
    dataset: Annotated[Path, typer.Argument(help="Dataset folder with manifest.parquet and image shards, as synfer import leaves it.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    out: Annotated[Path, typer.Option(help="Folder for predictions, metrics and tables; an earlier one is replaced.")] = Path("evaluated"),
    roles: Annotated[
        Path | None, typer.Option(help="For generated faces: the FER models that helped to make them; by default artifacts/fer_models.")
    ] = None,
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Measure a classifier on another dataset: metrics with intervals, recall of every class, gaps between groups of people.

    Refused where the model was trained on images or people of the split, or, for generated faces, helped to make them. Classes that only
    one of both knows are left out, and said so.

    [bold]Examples[/bold]

    synfer evaluate artifacts/classifiers/real+synthetic data/fer2013

    synfer evaluate models:/synfer-classifier@champion data/rafdb --split test --out evaluated/rafdb

    synfer compare evaluated/rafdb other/rafdb
    """
    workspace, settings = load_project(config, set_)
    from components.measure.dataset import check_replaceable, open_model
    from components.measure.dataset import evaluate as measure
    from components.record import read_tables

    check_replaceable(out)
    with open_model(model, workspace) as folder:
        measure(
            folder, dataset, split=split, section=settings.evaluation, common=settings.common, out=out,
            roles=roles or workspace.stage("fer_models"), title=f"{model} on {dataset}, split {split}",
        )  # fmt: skip
    for table in read_tables(out):
        console().print(f"\n{table.title}")
        for row in table.rows:
            console().print("  " + "; ".join(f"{name} {value}" for name, value in zip(table.columns, row, strict=True)))
    console().print(f"\n{shown(out.resolve(), workspace.root)}: predictions, metrics, figures")
