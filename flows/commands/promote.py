"""`synfer promote` and `synfer rollback`: which version is in use, as a person decides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project

if TYPE_CHECKING:
    from components.promotion.registry import HandOver, Registry

Model = Annotated[str | None, typer.Option("--model", help="Registered model; by default that of the configuration.")]


def promote(
    version: Annotated[str, typer.Argument(help="Number of the version; by default the challenger.", show_default=False)] = "",
    model: Model = None,
    force: Annotated[str, typer.Option(metavar="REASON", help="Promote a version that the gate held back, and say why.")] = "",
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Make a version of the model champion; the champion of before becomes `previous`.

    The same as moving alias champion in MLflow's browser, where the flow watch-promotion notices it.

    [bold]Examples[/bold]

    synfer promote

    synfer promote 3 --force "trained for the new camera"

    synfer promote --config smoke
    """
    registry = _registry(model, config, set_)
    _tell(registry, registry.promote(version, force=force))


def rollback(
    model: Model = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the version that loses the place.")] = "",
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Give the place of champion back to the version that held it before.

    [bold]Examples[/bold]

    synfer rollback

    synfer rollback --reason "too many false alarms on fear"
    """
    registry = _registry(model, config, set_)
    _tell(registry, registry.rollback(why=reason))


def _registry(model: str | None, overlays: list[str] | None, overrides: list[str] | None) -> Registry:
    from components.promotion.registry import Registry

    workspace, config = load_project(overlays, overrides)
    return Registry(workspace, model or config.registration.model_name)


def _tell(registry: Registry, done: HandOver) -> None:
    """Say what happened, on the terminal and, where a Prefect server is known, as an event."""
    from flows.prefect_home import use_project_home

    use_project_home(registry.workspace.root)
    from flows.promotion import announce, has_server

    over = f" over version {done.over}" if done.over else ""
    console().print(f"{done.model}: version {done.champion} is champion{over}: {done.why}")
    console().print("[dim]A synfer serve that runs keeps its model until it is started again.[/dim]")
    if has_server():
        announce(registry)
    else:
        console().print("[dim]No Prefect server answers (synfer up, PREFECT_API_URL): the flow watch-promotion will send the event.[/dim]")
