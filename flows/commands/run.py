"""`synfer run STAGE`: one stage, as DVC runs it."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project, shown


def run(
    stage: Annotated[
        str,
        typer.Argument(
            help="corpus, fer_models, generator, feranno, synthesis, rectification, validation, classifiers, evaluation, audit, report, "
            "release or registration"
        ),
    ],
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Run one stage of the pipeline; its inputs must exist.

    [bold]Examples[/bold]

    synfer run synthesis

    synfer run synthesis --config smoke --set synthesis.images=70
    """
    workspace, settings = load_project(config, set_)
    from components.made_with import other_settings
    from components.stages import check_stage, run_stage, upstream

    check_stage(stage, settings, workspace)  # before a wait for another run, which may last hours
    with workspace.exclusive(on_wait=lambda: console().print("another run writes artifacts/; waiting for its end")):
        for line in other_settings(upstream([stage]), settings, workspace.artifacts):
            console().print(line, style="yellow", markup=False)
        folder = run_stage(stage, settings, workspace)
    console().print(f"{stage}: {shown(folder, workspace.root)}")
