"""`synfer assets`: the embedded weights again."""

from __future__ import annotations

from flows.project import console, load_project


def assets() -> None:
    """Train the embedded weights from scratch: FER models, tokenizer, autoencoder, U-Net with its AU adapter. Resumable.

    [bold]Examples[/bold]

    synfer assets
    """
    workspace, _ = load_project()
    from components.assets.make import train_assets

    for folder in train_assets(workspace):
        console().print(str(folder))
