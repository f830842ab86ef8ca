"""`synfer describe`: captions and action units for real faces that came without them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project import console


def describe(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder with manifest.parquet and image shards.")],
    captions: Annotated[
        str | None, typer.Option(metavar="grammar|MODEL", help="From what the manifest knows (grammar), or by a model (its folder).")
    ] = None,
    aus: Annotated[
        str | None, typer.Option(metavar="TABLE|pyfeat", help="A CSV or Parquet file with a column an AU (AU12, 12, L12), or py-feat.")
    ] = None,
    au_scale: Annotated[
        str | None,
        typer.Option(help="What the table holds: intensity (0..5), presence (0, 1) or probability (0..1); by default what its values say."),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="What the model is given: a beginning, or a question if it chats.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace captions and AUs that are there.")] = False,
    out: Annotated[Path | None, typer.Option(help="A new folder; without it the manifest of the dataset changes.")] = None,
    device: Annotated[str, typer.Option(help="Of model or detector: auto, cpu, cuda, cuda:1.")] = "auto",
    seed: Annotated[int, typer.Option(help="Which parts the grammar leaves out.")] = 0,
) -> None:
    """Write captions and AUs of real faces into their manifest, where it has none; an interrupted call goes on.

    [bold]Examples[/bold]

    synfer describe data/affectnet --aus affectnet_aus.csv --captions grammar

    synfer describe data/affectnet --captions models/blip-image-captioning-base --device cuda

    synfer describe data/affectnet --captions models/llava --prompt "What does this face show?" --overwrite --out data/affectnet-llava

    synfer describe data/rafdb --aus openface.csv --au-scale intensity

    synfer describe data/rafdb --aus pyfeat_elsewhere.csv --au-scale probability

    synfer describe data/rafdb --aus pyfeat --device cuda
    """
    from components.describe import describe as write
    from synfer.descriptions.action_units import check_scale

    scale = check_scale(au_scale) if au_scale is not None else None
    done = write(dataset, captions=captions, aus=aus, out=out, scale=scale, prompt=prompt, overwrite=overwrite, device=device, seed=seed)
    ignored = f"; no such AU here: {', '.join(done.ignored)}" if done.ignored else ""
    console().print(f"{done.folder}: {done.rows} rows, {done.captions} captions written, AUs of {done.with_aus} known{ignored}")
