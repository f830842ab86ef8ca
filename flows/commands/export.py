"""`synfer export`: a release as other libraries read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project import console


def export(
    release: Annotated[str, typer.Argument(help="Name under data/synthetic, or a folder.")],
    out: Annotated[Path, typer.Option(help="Folder; an earlier export is replaced.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="imagefolder, webdataset or parquet.")] = "imagefolder",
    split: Annotated[str | None, typer.Option(help="train, val or test; by default all that the release has.")] = None,
    label: Annotated[str, typer.Option(help="What the class is: label (what was found), or expression (what was asked).")] = "label",
    with_rejected: Annotated[bool, typer.Option("--with-rejected", help="Export rejected images as well.")] = False,
) -> None:
    """Write a release as class folders, tar shards or Parquet; images keep their bytes, rows all their columns.

    The folder appears whole or not at all. Classes are numbered in the order of the vocabulary, as the posterior is.

    [bold]Examples[/bold]

    synfer export laptop --to imagefolder --out exports/laptop

    synfer export laptop --to webdataset --split train --out exports/laptop-tar

    synfer export laptop --to parquet --label expression --with-rejected --out exports/asked
    """
    from components.export.write import export as write
    from components.releases.folder import find_release

    done = write(find_release(release, Path.cwd()), out, to=to, split=split, label=label, with_rejected=with_rejected)
    left = f"; {done.left_out} left out" if done.left_out else ""
    console().print(f"{done.out}: {done.images} images ({', '.join(f'{count} {name}' for name, count in done.splits.items())}){left}")
