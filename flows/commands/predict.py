"""`synfer predict`: expressions in pictures, by the registered model that is in use or by the folder of a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project
from synfer.files import whole_file

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def predict(
    images: Annotated[list[Path], typer.Argument(help="Pictures of one face each: PNG, JPEG or WebP files.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(help="Folder of a trained classifier, or MLflow URI, models:/synfer-classifier/3; by default the configured champion"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write all probabilities as a CSV file.")] = None,
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Classify faces with the champion, the model that MLflow serves, or with any classifier: label, probabilities, version.

    [bold]Examples[/bold]

    synfer predict face.png

    synfer predict faces/*.jpg --out labels.csv

    synfer predict face.png --model models:/synfer-classifier@challenger

    synfer predict face.png --model artifacts/classifiers/real

    synfer predict face.png --config smoke
    """
    from components.promotion.predict import predict_files

    workspace, settings = load_project(config, set_)
    if out is not None and out.suffix != ".csv":
        raise typer.BadParameter(f"{out} does not end in .csv", param_hint="--out")
    found = predict_files(workspace, images, model or f"models:/{settings.registration.model_name}@champion")
    console().print(_table(found))
    if out is not None:
        with whole_file(out) as temporary:
            found.to_csv(temporary, index=False)
        console().print(f"{len(found)} rows: {out}")


def _table(found: pd.DataFrame) -> Table:
    """A line a picture, with the two most probable classes."""
    from rich.table import Table

    table = Table("file", "label", "probability", "next", "model version", box=None)
    classes = [name for name in found.columns if name not in ("file", "label", "probability", "model_version")]
    for row in found.to_dict("records"):
        second = sorted(classes, key=lambda name: -row[name])[1:2]
        next_best = ", ".join(f"{name} {row[name]:.2f}" for name in second)
        table.add_row(row["file"], row["label"], f"{row['probability']:.2f}", next_best, row["model_version"])
    return table
