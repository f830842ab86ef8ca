"""`synfer corpus`: the embedded corpus again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project import console


def corpus(
    out: Annotated[Path, typer.Option(help="Dataset folder; an older one is replaced.")] = Path("data/faces"),
    seed: Annotated[int, typer.Option(help="Root of every random choice.")] = 0,
    identities: Annotated[int, typer.Option(min=7, help="People; 70 % train, 15 % val, 15 % test.")] = 600,
    size: Annotated[int, typer.Option(min=32, max=256, help="Side of the images in pixels.")] = 64,
) -> None:
    """Render the embedded corpus: 600 people with 10 faces each, labelled by simulated annotators.

    [bold]Examples[/bold]

    synfer corpus

    synfer corpus --out data/faces128 --size 128 --seed 1
    """
    from components.embedded_corpus import write_corpus

    frame = write_corpus(out, seed=seed, identities=identities, size=size)
    console().print(f"{len(frame)} faces of {frame['identity'].nunique()} people in {out}")
