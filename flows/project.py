"""What the commands share: the options of the configuration, the project they run in, and how they print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from components.workspace import Workspace
    from synfer.config import Config

Overlays = Annotated[
    list[str] | None,
    typer.Option("--config", "-c", metavar="OVERLAY", help="Overlay in configs/ (smoke, ablations/no_aus) or YAML file; may be repeated."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One value, for example synthesis.images=700; may be repeated."),
]


def load_project(overlays: list[str] | None = None, overrides: list[str] | None = None) -> tuple[Workspace, Config]:
    """The workspace around the current folder and its effective configuration; raises WorkspaceError or ConfigError."""
    from components.workspace import Workspace
    from synfer.config import load_config

    workspace = Workspace.find(Path.cwd())
    return workspace, load_config(workspace.params, overlays=overlays or (), overrides=overrides or ())


def check_settings(config: Config, workspace: Workspace, wanted: Sequence[str]) -> None:
    """Raise, before the first of the `wanted` stages, what they would find wrong with a plan or a release of the configuration."""
    if "synthesis" in wanted and (config.synthesis.plan or config.synthesis.have):
        from components.plans.rows import planned_faces

        planned_faces(config.synthesis, config.common, inside=workspace.root)
    if "validation" in wanted and config.validation.previous:
        workspace.release(config.validation.previous)


def console() -> Console:
    """Where commands print their results."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def shown(path: Path, root: Path) -> str:
    """A path as people read it: relative to the project where it lies inside."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
