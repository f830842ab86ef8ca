"""`synfer verify`: whether a release is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project import console


def verify(release: Annotated[str, typer.Argument(help="Name under data/synthetic, or a folder.")]) -> None:
    """Check a release: files against SHA256SUMS, shards against the manifest, both against the card, every image and its mark.

    Prints a line for everything that is wrong, with file and sample; the exit status is 1 if there is any.

    [bold]Examples[/bold]

    synfer verify laptop

    synfer verify downloads/faces-2026
    """
    from tqdm import tqdm

    from components.releases.folder import ReleaseError, find_release
    from components.releases.verify import verify as check

    folder = find_release(release, Path.cwd())
    done = check(folder, lambda finding: tqdm.write(str(finding)))
    if done.findings:
        raise ReleaseError(f"{folder}: {done.findings} {'thing is' if done.findings == 1 else 'things are'} wrong, see above")
    console().print(f"{folder}: {done.images} images, nothing is wrong")
