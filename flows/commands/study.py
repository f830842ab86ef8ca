"""`synfer study NAME`: does synthetic data help, and by how much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.project import Overrides, console

if TYPE_CHECKING:
    from components.studies.run import StudyRun


def study(
    name: Annotated[str, typer.Argument(help="scaling, ablation, low_data, representation, few_shot or zero_shot")],
    preset: Annotated[str, typer.Option(help="smoke (a minute), laptop (params.yaml) or paper (Stable Diffusion 1.5, a GPU).")] = "laptop",
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of every arm.")] = None,
    corpus: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Another dataset folder, such as synfer import leaves; models are trained on it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run and its estimated cost, and stop.")] = False,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", "-c", metavar="OVERLAY", help="Overlay or YAML file on top of the preset; may be repeated."),
    ] = None,
    set_: Overrides = None,
) -> None:
    """Run a study: its cells, a table, a plot and a page; finished cells are not run again.

    What it finds goes to reports/studies/, of other presets and corpora into a folder of their own there.

    [bold]Examples[/bold]

    synfer study scaling --preset smoke

    synfer study scaling --dry-run

    synfer study low_data --seeds 5

    synfer study scaling --corpus data/fer2013

    synfer study ablation --preset paper --dry-run

    synfer study ablation --set studies.steps=3000
    """
    from flows.study_run import open_study

    run = open_study(name, preset=preset, seeds=seeds, corpus=corpus, overlays=config, overrides=set_)
    if dry_run:
        _tell_plan(run)
        return
    from flows.prefect_home import use_project_home

    use_project_home(run.workspace.root)
    from flows.studies import study as flow

    flow(name, preset=preset, seeds=seeds or 0, corpus=str(corpus or ""), overlays=config or [], overrides=set_ or [])


def _tell_plan(run: StudyRun) -> None:
    """Print arms, work and cost; nothing is written."""
    from rich.table import Table

    out, sizes, pending = console(), run.sizes, set(map(id, run.pending))
    out.print(f"[bold]{run.study.title}[/bold]: {run.study.question}")
    out.print(f"real faces: {sizes.labelled:,} with labels, {sizes.unlabelled:,} without, {sizes.test:,} for the test ({sizes.source})")
    table = Table("arm", "training faces", "trainings", "finished")
    for arm in dict.fromkeys(cell.arm for cell in run.cells):
        cells = [cell for cell in run.cells if cell.arm == arm]
        faces = " + ".join(f"{part.count:,} {part.faces}" for part in cells[0].parts)
        table.add_row(arm, faces, str(len(cells)), str(sum(id(cell) not in pending for cell in cells)))
    out.print(table)
    for job in run.jobs:
        out.print(f"before: {job.title}", markup=False)
    out.print(f"{run.cost.words} on {run.config.studies.machine}. This is an estimate from the rates of section studies.")
