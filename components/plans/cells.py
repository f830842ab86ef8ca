"""A cell of a plan: so many faces of one kind, and which faces are of that kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.plans.au_ranges import Range, in_ranges
from synfer.vocabulary import ATTRIBUTES, COMPOUNDS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Names of cells are part of the sample's name, and so of file names and of keys in tar files, which end at a dot."""

_SHARED = {value for values in ATTRIBUTES.values() for value in values if sum(value in other for other in ATTRIBUTES.values()) > 1}


@dataclass(frozen=True)
class Cell:
    """`count` faces that show an expression or a compound one ("" leaves it open), AUs within ranges, and attributes of the person.

    `line` is that of the plan file.
    """

    name: str
    count: int
    expression: str = ""
    compound: str = ""
    aus: Mapping[str, Range] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    line: int = 0

    @property
    def words(self) -> str:
        """What is asked, for people: "fear, age elderly, AU 12 2..5"."""
        aus = [f"AU {code} {low:g}..{high:g}" for code, (low, high) in self.aus.items()]
        asked = [self.expression or self.compound or "any expression", *aus]
        return ", ".join([*asked, *(f"{name.replace('_', ' ')} {value}" for name, value in self.attributes.items())])

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a face that was asked for like this row of a manifest is of this kind, whatever became of it."""
        compound = row.get("compound") or ""
        if compound != self.compound or (not compound and not row["expression"]):
            return False
        if self.expression and row["expression"] != self.expression:
            return False
        if any(row.get(f"attr_{name}") != value for name, value in self.attributes.items()):
            return False
        return not self.aus or in_ranges(np.array(row["aus"], dtype=np.float32), self.aus)


def shows_what_was_asked(row: Mapping[str, Any]) -> bool:
    """Whether a rectified row is not rejected and its label is what was asked, or one of the two parts of an asked compound."""
    compound = row.get("compound") or ""
    wanted = COMPOUNDS.get(compound, ()) if compound else (row["expression"],)
    return row["action"] != "reject" and row["label"] in wanted


def name_of(expression: str, compound: str, aus: Mapping[str, Range], attributes: Mapping[str, str]) -> str:
    """A name for a cell that has none: "fear-elderly", "happiness-au12-4-5", "happily-surprised"."""
    parts = [expression or compound]
    parts += [f"au{code}-{low:g}-{high:g}".replace(".", "_") for code, (low, high) in aus.items()]
    parts += [f"{name}-{value}" if value in _SHARED else value for name, value in attributes.items()]
    return "-".join(part.replace(" ", "-") for part in parts if part) or "any"
