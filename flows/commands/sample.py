"""`synfer sample`: a few generated faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project


def sample(
    expression: Annotated[str, typer.Argument(help="Expression, for example happiness.")],
    au: Annotated[list[str] | None, typer.Option(metavar="AU=INTENSITY", help="An AU to show, 0..5; may be repeated.")] = None,
    caption: Annotated[str | None, typer.Option(help="Caption instead of the one that names the expression.")] = None,
    seed: Annotated[int, typer.Option(help="Other faces.")] = 0,
    n: Annotated[int, typer.Option("-n", min=1, max=256, help="How many.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder for the sheet and the single files.")] = Path("samples"),
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Generate faces from an expression, AUs and a caption with the configured backbone.

    [bold]Examples[/bold]

    synfer sample happiness

    synfer sample surprise --au 12=4 --au L2=3 --seed 1 -n 8

    synfer sample anger --caption "an elderly man with a beard, angry expression" --out samples/anger
    """
    workspace, settings = load_project(config, set_)
    from synfer.vocabulary import check_expression, parse_aus

    check_expression(expression)  # told before the seconds that torch takes to import
    aus = parse_aus(",".join(au or ()))
    from components.sampling import sample_faces

    sheet = sample_faces(settings, workspace, expression=expression, aus=aus, caption=caption, seed=seed, n=n, out=out)
    console().print(str(sheet))
