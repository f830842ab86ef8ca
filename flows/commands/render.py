"""`synfer render`: a labelled sheet of rendered faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project import console


def render(
    expressions: Annotated[list[str] | None, typer.Argument(help="Expressions, one a row; all seven by default.")] = None,
    au: Annotated[list[str] | None, typer.Option(metavar="AU=INTENSITY", help="An AU of every face, 0..5; may be repeated.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=64, help="Faces a row.")] = 8,
    size: Annotated[int, typer.Option(min=32, max=256, help="Side of a face in pixels.")] = 96,
    seed: Annotated[int, typer.Option(help="Other people, other scenes.")] = 0,
    out: Annotated[Path, typer.Option(help="PNG file.")] = Path("samples/render.png"),
) -> None:
    """Draw faces from action units: one person a column, one expression a row.

    [bold]Examples[/bold]

    synfer render

    synfer render happiness fear -n 12 --size 128 --seed 7

    synfer render neutral --au 12=4 --au L2=3 --out samples/smirk.png
    """
    from components.rendering import render_sheet
    from synfer.vocabulary import parse_aus

    aus = parse_aus(",".join(au or ()))
    render_sheet(out, expressions=expressions or None, aus=aus, columns=n, size=size, seed=seed)
    console().print(str(out))
