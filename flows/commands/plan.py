"""`synfer plan`: what a plan asks for, what releases hold of it, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project, shown

if TYPE_CHECKING:
    from pandas import DataFrame


def plan(
    file: Annotated[str, typer.Argument(metavar="PLAN", help="Name of a file in configs/plans, or a path; see docs/plans.md.")],
    have: Annotated[
        list[str] | None, typer.Option(metavar="RELEASE", help="Count what this release holds: a name or a folder; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table as CSV, too.")] = None,
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Check a plan of faces and show, cell by cell, what is asked, there, rejected and missing. Nothing is drawn.

    A face is there if it was asked for what the cell asks, is not rejected, and its label says the same.

    [bold]Examples[/bold]

    synfer plan rare

    synfer plan rare --have laptop --have rare-1 --out missing.csv
    """
    workspace, settings = load_project(config, set_)
    from components.plans.rows import stock_of
    from synfer.files import whole_file

    # The releases of the configuration belong to its own plan, not to any other.
    named = [*(settings.synthesis.have if file == settings.synthesis.plan else ()), *(have or ())]
    read, stock = stock_of(file, named, settings.common, root=workspace.root)
    table = stock.table()
    _print(table)
    if out is not None:
        with whole_file(out) as temporary:
            table.to_csv(temporary, index=False)
    place, missing = shown(read.path, workspace.root), stock.total_missing
    counts = f"{place}: {len(table)} cells, {table['asked'].sum()} faces asked, {table['there'].sum()} there, "
    console().print(counts + (f"{missing} missing" if missing else "nothing is missing"))
    if missing:
        releases = f" --set 'synthesis.have=[{','.join([*read.have, *named])}]'" if named else ""
        console().print(f"draw them with: synfer flow pipeline --set synthesis.plan={file}{releases} --set release.name=NAME", markup=False)


def _print(table: DataFrame) -> None:
    from rich.table import Table

    shown_table = Table("cell", "asks for")
    for name in ("asked", "there", "rejected", "missing"):
        shown_table.add_column(name, justify="right")
    for cell, asks_for, *counts, missing in table.astype(str).to_numpy().tolist():
        shown_table.add_row(cell, asks_for, *counts, f"[bold]{missing}[/bold]" if missing != "0" else missing)
    sums = [str(table[name].sum()) for name in ("asked", "there", "rejected", "missing")]
    shown_table.add_row("all", "", *sums, end_section=True)
    out = console()
    out.soft_wrap = False
    out.print(shown_table)
