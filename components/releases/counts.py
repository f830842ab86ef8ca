"""What a release holds, in numbers: the card states them, `synfer verify` counts again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from synfer.annotation.rectify import ACTIONS
from synfer.vocabulary import ATTRIBUTES, EXPRESSIONS


@dataclass
class Counts:
    """Images by split, by asked expression, by label and action, and by what was asked of the person."""

    images: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    attributes: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of the manifest."""
        self.images += 1
        self.splits[str(row["split"])] += 1
        self.asked[str(row["expression"])] += 1
        self.labels[str(row["label"]), str(row["action"])] += 1
        for name in ATTRIBUTES:
            if f"attr_{name}" in row:
                self.attributes.setdefault(name, Counter())[row[f"attr_{name}"] or "unknown"] += 1

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Counts:
        """The counts of all rows."""
        counts = cls()
        for row in rows:
            counts.add(row)
        return counts

    @property
    def usable(self) -> int:
        """Images that are meant for training."""
        return sum(count for (_, action), count in self.labels.items() if action != "reject")

    def stated(self) -> dict[str, Any]:
        """The counts as the head of the card states them: plain numbers by name, in the vocabulary's order."""
        return {
            "images": self.images,
            "usable": self.usable,
            "by_split": dict(sorted(self.splits.items())),
            "by_expression": {name: self.asked[name] for name in EXPRESSIONS if self.asked[name]},
            "by_label": {name: {action: self.labels[name, action] for action in ACTIONS} for name in self._shown()},
        }

    def table(self) -> list[tuple[str | int, ...]]:
        """A row an expression: its name, how many were asked, how many carry it as label by action."""
        return [(name, self.asked[name], *(self.labels[name, action] for action in ACTIONS)) for name in self._shown()]

    def people(self) -> list[tuple[str, str]]:
        """An attribute and its values with their counts, in the vocabulary's order."""
        return [(name.replace("_", " "), _listed(name, found)) for name, found in self.attributes.items()]

    def _shown(self) -> list[str]:
        labelled = {label for label, _ in self.labels}
        return [name for name in EXPRESSIONS if self.asked[name] or name in labelled]


def _listed(name: str, found: Counter[str]) -> str:
    others = sorted(value for value in found if value not in ATTRIBUTES[name])
    return ", ".join(f"{value} {found[value]}" for value in (*ATTRIBUTES[name], *others) if found[value])
