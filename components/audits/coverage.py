"""What the data does not show: cells of expression, action unit and attribute that were asked for and are empty.

An action unit counts as present from intensity 1 (FACS' A) on, in two bands. A cell was asked for by the plan's expression; an image in use
fills the cells of its label, so that a relabelled one leaves those of its intent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from components.audits.finding import Finding, unmeasured
from components.audits.groups import groups, in_use, title
from components.plots import heat_map
from components.record import Record
from synfer.config import Audit
from synfer.manifest import stack
from synfer.vocabulary import AU_CODES

NAME = "coverage"
BANDS = {"1 to 3": (1.0, 3.0), "3 to 5": (3.0, np.inf)}
"""Intensities of a band, from the first up to, not including, the second."""

_TITLE = "What was asked for is there"
_LISTED, _ON_CARD = 20, 8


@dataclass(frozen=True)
class Cells:
    """Counts of the asked images and of those in use: int (expressions, AU bands, groups), with the names of each axis."""

    expressions: tuple[str, ...]
    bands: tuple[tuple[str, str], ...]
    groups: tuple[tuple[str, str], ...]
    asked: np.ndarray
    used: np.ndarray

    def emptiest(self) -> pd.DataFrame:
        """The asked cells with the fewest images in use first, of those the ones that were asked most.

        Of each expression with a unit in a band the emptiest attribute alone, or one rare unit would fill the list.
        """
        where = np.argwhere(self.asked > 0)
        asked, used = (counts[tuple(where.T)] for counts in (self.asked, self.used))
        order = np.lexsort((-asked, used))
        cells = pd.DataFrame(
            {
                "expression": [self.expressions[e] for e, _, _ in where[order]],
                "AU": [self.bands[b][0] for _, b, _ in where[order]],
                "intensity": [self.bands[b][1] for _, b, _ in where[order]],
                "attribute": [title(*self.groups[g]) for _, _, g in where[order]],
                "asked": asked[order],
                "in use": used[order],
            }
        )
        return cells.drop_duplicates(["expression", "AU", "intensity"], ignore_index=True)


def audit_coverage(
    rectified: pd.DataFrame, expressions: tuple[str, ...], section: Audit, record: Record
) -> tuple[Finding, list[dict[str, Any]]]:
    """Count the cells that were asked for and those that images in use fill; record the emptiest, which come back too, and heat maps."""
    wanted = f"share of the asked cells that images in use fill at least {section.min_cells:g}"
    cells = count_cells(rectified, expressions)
    asked = int((cells.asked > 0).sum())
    if not asked:
        return unmeasured(NAME, _TITLE, "the plan names no attributes or no action units", wanted=wanted), []
    filled = int(((cells.asked > 0) & (cells.used > 0)).sum())
    emptiest = cells.emptiest()
    record.metric("audit/cells_asked", asked)
    record.metric("audit/cells_filled", filled, n=asked)
    record.metric("audit/cells_filled_share", filled / asked, n=asked)
    name = f"The emptiest of {asked:,} cells that were asked for; {asked - filled:,} have no image in use"
    record.table(name, emptiest.head(_LISTED))
    _figures(rectified, expressions, record)
    observed = f"{filled / asked:.3f}: {filled:,} of {asked:,} cells" + _named(emptiest)
    finding = Finding(NAME, _TITLE, "warning", filled >= section.min_cells * asked, observed, wanted, filled / asked, n=asked)
    return finding, json.loads(emptiest.head(_ON_CARD).to_json(orient="records"))


def count_cells(rectified: pd.DataFrame, expressions: tuple[str, ...]) -> Cells:
    """Count every cell of the vocabulary's action units, in both bands, and of the groups that were planned."""
    intensities, used = np.nan_to_num(stack(rectified, "aus")), in_use(rectified)
    shown = np.stack([(intensities >= low) & (intensities < high) for low, high in BANDS.values()], axis=2).reshape(len(rectified), -1)
    found = list(groups(rectified))
    members = np.stack([has for _, _, has in found], axis=1) if found else np.zeros((len(rectified), 0), bool)

    def counts(column: str, rows: np.ndarray) -> np.ndarray:
        chosen = [(rectified[column] == name).to_numpy() & rows for name in expressions]
        return np.stack([shown[one].T.astype(np.int64) @ members[one].astype(np.int64) for one in chosen])

    bands = tuple((code, band) for code in AU_CODES for band in BANDS)
    named = tuple((name, value) for name, value, _ in found)
    return Cells(expressions, bands, named, counts("expression", np.ones(len(rectified), bool)), counts("label", used))


def _named(emptiest: pd.DataFrame) -> str:
    """The empty cells that were asked most, three of them."""
    empty = emptiest[emptiest["in use"] == 0].head(3)
    cells = [f"{row.expression} x AU {row.AU} at {row.intensity} x {row.attribute}" for row in empty.itertuples()]
    return f"; empty are {', '.join(cells)}" if cells else ""


# --- what people see --------------------------------------------------------------------------------------------------------------


def _figures(rectified: pd.DataFrame, expressions: tuple[str, ...], record: Record) -> None:
    used = in_use(rectified)
    active = np.nan_to_num(stack(rectified, "aus")) >= 1
    asked = np.flatnonzero(active.any(axis=0))
    never = [code for index, code in enumerate(AU_CODES) if index not in asked]
    missing = f" Nobody was asked for {', '.join(never)}." if never else ""
    _map(rectified, used, active[:, asked], [AU_CODES[index] for index in asked], expressions, record, name="coverage_aus",
         title="Expressions and action units", xlabel="action unit",
         caption=f"Per cent of the images in use of a label that were asked to show the unit at intensity 1 or more.{missing}")  # fmt: skip
    found = list(groups(rectified))
    _map(rectified, used, np.stack([has for _, _, has in found], axis=1), [title(name, value) for name, value, _ in found], expressions,
         record, name="coverage_attributes", title="Expressions and people", xlabel="",
         caption="Per cent of the images in use of a label that have the attribute.")  # fmt: skip


def _map(
    rectified: pd.DataFrame,
    used: np.ndarray,
    has: np.ndarray,
    columns: list[str],
    expressions: tuple[str, ...],
    record: Record,
    *,
    name: str,
    title: str,
    xlabel: str,
    caption: str,
) -> None:
    """Shares of the images in use, an expression a row; what was asked for and is empty is framed."""
    counts, asked = (
        np.stack([has[(rectified[column] == one).to_numpy() & rows].sum(axis=0) for one in expressions])
        for column, rows in (("label", used), ("expression", np.ones(len(used), bool)))
    )
    images = np.array([((rectified["label"] == one).to_numpy() & used).sum() for one in expressions])
    shares = counts / np.maximum(images, 1)[:, None]
    cells = [[f"{100 * share:.0f}" if count else "" for share, count in zip(*row)] for row in zip(shares, counts)]
    rows = [f"{one} ({count})" for one, count in zip(expressions, images)]
    figure = heat_map(shares, rows, columns, cells=cells, xlabel=xlabel, empty=(counts == 0) & (asked > 0))
    text = f"{caption} Framed in red: asked for, and no image in use. In brackets: images in use of the label."
    record.figure(name, figure, title=title, caption=text)
