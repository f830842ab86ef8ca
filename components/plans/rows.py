"""From a plan to manifest rows: cells take turns in proportion to what they lack, and what a cell leaves open comes from the prior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from components.plan import draw_attributes, plan_faces, series_seed, with_attributes
from components.plans.au_ranges import draw_within
from components.plans.cells import Cell
from components.plans.file import Plan, PlanError, find_plan, read_plan
from components.plans.stock import Stock, find_releases, take_stock
from components.workspace import Workspace
from synfer.captions import caption
from synfer.config import Common, Synthesis
from synfer.seeding import derive_seed
from synfer.vocabulary import EXPRESSIONS


def planned_faces(section: Synthesis, common: Common, *, inside: Path) -> pd.DataFrame:
    """The rows that stage synthesis draws: those of the plan that no release holds yet, or `section.images` spread evenly without a plan.

    `inside` is a folder of the project, where a plan is looked for. The columns `plan_cell` and `compound` are "" where they say nothing.
    Raises PlanError, WorkspaceError or ManifestError, before any work, if the plan or a release cannot be read, or if nothing is missing.
    """
    seed = series_seed(common.seed, section.series)
    if not section.plan:
        if section.have:
            raise PlanError("synthesis.have counts what releases hold of a plan; name one with synthesis.plan")
        return plan_faces(section.images, expressions=common.expressions, seed=seed).assign(plan_cell="", compound="")
    plan, stock = stock_of(section.plan, section.have, common, root=Workspace.find(inside).root, series=section.series)
    if not stock.total_missing:
        asked = sum(cell.count for cell in plan.cells)
        raise PlanError(f"nothing is missing: {plan.path} asks for {asked} faces, and the releases that it counts hold them all")
    return plan_rows(stock, expressions=common.expressions, seed=seed)


def stock_of(plan: str, have: Sequence[str], common: Common, *, root: Path, series: int = 0) -> tuple[Plan, Stock]:
    """A plan by its name or path, and what its own releases and those of `have` hold of it; rows of `series` are numbered on."""
    read = read_plan(find_plan(plan, root), expressions=common.expressions)
    return read, take_stock(read, find_releases([*read.have, *have], root), seed=series_seed(common.seed, series))


def plan_rows(stock: Stock, *, expressions: Sequence[str], seed: int | str) -> pd.DataFrame:
    """One row a missing face; row i of a cell depends on (seed, the cell, i) alone, and any prefix holds every cell in proportion.

    A plan whose counts have all grown by one factor begins with the smaller one.
    """
    turns = [
        ((turn + 0.5) / stock.missing(cell), place, stock.begun[cell.name] + turn)
        for place, cell in enumerate(stock.cells)
        for turn in range(stock.missing(cell))
    ]
    return pd.DataFrame([_row(stock.cells[place], index, expressions, seed) for _, place, index in sorted(turns)])


def _row(cell: Cell, index: int, expressions: Sequence[str], seed: int | str) -> dict[str, object]:
    sample_seed = derive_seed("synthesis", seed, cell.name, index)
    rng = np.random.default_rng(sample_seed)
    person = with_attributes(draw_attributes(rng, cell.attributes), cell.attributes)
    shown = cell.expression or cell.compound or expressions[index % len(expressions)]
    aus = draw_within(shown, cell.aus, rng)
    return {
        "sample_id": f"synthetic-{seed}-{cell.name}-{index:06d}",
        "split": "train",
        "identity": "",
        "expression": shown if shown in EXPRESSIONS else "",  # a manifest knows the basic ones
        "caption": caption(shown, attributes=person, aus=aus),
        "aus": aus,
        "seed": sample_seed,
        **{f"attr_{name}": value for name, value in person.items()},
        "plan_cell": cell.name,
        "compound": cell.compound,
    }
