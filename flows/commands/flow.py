"""`synfer flow`: whole flows under Prefect."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.project import Overlays, Overrides, check_settings, load_project

app = typer.Typer(help="Run a whole flow under Prefect, with its runs in MLflow.", no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def group() -> None:
    """Run a whole flow under Prefect, with its runs in MLflow."""


@app.command()
def pipeline(
    config: Overlays = None,
    set_: Overrides = None,
    start: Annotated[
        str, typer.Option("--from", metavar="STAGE", help="First stage to run; what the earlier ones left is used.")
    ] = "corpus",
    stop: Annotated[str, typer.Option("--to", metavar="STAGE", help="Last stage to run.")] = "registration",
) -> None:
    """Corpus to registered model: every stage in order.

    [bold]Examples[/bold]

    synfer flow pipeline

    synfer flow pipeline --config smoke

    synfer flow pipeline --set synthesis.images=2800 --from synthesis --to validation
    """
    workspace, settings = load_project(config, set_)  # a bad key is told before Prefect starts
    from components.stages import stages_between
    from flows.prefect_home import use_project_home

    check_settings(settings, workspace, stages_between(start, stop, workspace))
    use_project_home(workspace.root)
    from flows.pipeline import pipeline as flow

    flow(overlays=config or [], overrides=set_ or [], start=start, stop=stop)
