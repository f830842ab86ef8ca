"""What an import has to say for itself: notes for its reader, and `card.json` for those who come later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from components.imports.probe import Probed
from components.imports.splits import Together
from components.imports.survey import Problems, Survey
from synfer.datasets.entries import Format, Layout
from synfer.datasets.label_order import label_order_warnings
from synfer.manifest import SPLITS

SKIPPED, COPIES = "skipped.csv", "near_duplicates.csv"


@dataclass(frozen=True, eq=False)
class Account:
    """All that is known at the end: the set and its layout, the rows, and what was left out, passed over, found or looked at."""

    known: Format
    layout: Layout
    surveyed: Survey
    frame: pd.DataFrame
    problems: Problems
    blank: Sequence[str]
    copies: pd.DataFrame
    together: Together
    probed: Probed | None

    def notes(self) -> list[str]:
        """What a reader should know, a line each."""
        return [*self._of_labels(), *self._of_images(), *self._of_people(), *self._of_splits()]

    def _of_labels(self) -> Iterator[str]:
        if self.layout.note:
            yield self.layout.note
        yield from (f"labels: {warning}" for warning in label_order_warnings(self.surveyed.expressions, self.known.published))
        if self.probed is not None:
            yield f"labels: {self.probed.told}"

    def _of_images(self) -> Iterator[str]:
        published = sum(self.known.published.values())
        labelled = sum(self.surveyed.expressions[name] for name in self.known.published)
        if labelled < published:
            yield f"{labelled} of the {published} published images are here"
        yield from (f"{count} left out: {why}" for why, count in self.surveyed.left_out.items())
        if self.blank:
            yield f"{len(self.blank)} left out: blank, such as {self.blank[0]}"
        if self.problems.found:
            yield f"{len(self.problems.found)} could not be taken, see {SKIPPED}"

    def _of_people(self) -> Iterator[str]:
        kept = self.together
        if kept.embedding:
            yield (
                f"{kept.nameless} faces of unknown people lie in {kept.look_alikes} groups of look-alikes by {kept.embedding}, "
                f"the largest of {kept.largest}; no group is in two of the splits made here"
            )
        elif kept.nameless:
            yield (
                "nobody says who is on the images: near copies stay in one split, but a person may lie in several; "
                "--identities clusters keeps look-alikes together"
            )
        if len(self.copies):
            yield f"{len(self.copies)} near-duplicates lie in more than one split, see {COPIES}"

    def _of_splits(self) -> Iterator[str]:
        lacking = [split for split in SPLITS if not (self.frame["split"] == split).any()]
        yield from (f"no {split} split: the pipeline needs one; take it from train with --carve {split}" for split in lacking)

    def card(self, *, resplit: bool) -> dict[str, Any]:
        """The values of `card.json`."""
        frame, kept = self.frame, self.together
        own = sorted(split for split in self.surveyed.splits if split) if not resplit else []
        look_alikes = {"embedding": kept.embedding, "groups": kept.look_alikes, "largest": kept.largest, "images": kept.nameless}
        return {
            "title": self.known.title,
            "layout": self.layout.name,
            "license": self.known.licence,
            "source": self.known.source,
            "images": {split: int((frame["split"] == split).sum()) for split in SPLITS},
            "expressions": {str(name): int(count) for name, count in frame["expression"].value_counts().items()},
            "identities": int(frame.loc[frame["identity"] != "", "identity"].nunique()),
            "look_alikes": look_alikes if kept.embedding else None,
            "label_probe": None if self.probed is None else asdict(self.probed),
            "own_splits": own,
            "left_out": {**self.surveyed.left_out, **({"blank": len(self.blank)} if self.blank else {})},
            "skipped": len(self.problems.found),
            "notes": self.notes(),
        }
