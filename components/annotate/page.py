"""The page of an annotation: how many labels are disputed, what is given against what is seen, and the most suspicious faces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.annotate.opinion import MEMBER
from components.annotate.sources import Source
from components.annotate.table import decided_by
from components.annotate.verdicts import Verdicts
from components.report_page import data_uri
from components.templating import fill
from synfer.annotation.rectify import ACTIONS
from synfer.files import whole_file
from synfer.images import encode_webp, resize

_SIDE = 112  # pixels of a face on the page
_RANKED = 3  # classes of a posterior that are shown
NO_LABEL = "no label"
_UNREADABLE = 50  # files that are listed


@dataclass(frozen=True)
class Suspect:
    """A face on the page: `seen` is each member's first choice with its probability, `top` the likeliest classes of the posterior."""

    image: str
    sample_id: str
    given: str
    label: str
    action: str
    reason: str
    seen: tuple[tuple[str, str, float], ...]
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Cell:
    """A number of the confusion with its share of the row, 0..1."""

    count: int
    share: float
    right: bool


def write_page(path: Path, verdicts: Verdicts, source: Source, *, title: str, shown: int) -> Path:
    """Write the page whole or not at all; the `shown` most suspicious faces are decoded again, nothing else is."""
    chosen = suspicious(verdicts, shown)
    suspects = _suspects(verdicts, source, chosen)
    unreadable = [reason for reason, readable in zip(verdicts.reasons, verdicts.readable, strict=True) if not readable]
    decided = decided_by(verdicts)
    page = fill(
        "annotate.html.j2",
        title=title,
        kind=source.kind,
        count=len(verdicts.sample_ids),
        has_label=int(verdicts.has_label.sum()),
        disputed=int(verdicts.is_issue.sum()),
        actions=_counts(verdicts.action[verdicts.readable]),
        by_given=_by_given(verdicts),
        confusion=_confusion(verdicts),
        classes=verdicts.classes,
        suspects=suspects,
        filters=_filters(suspects, verdicts.classes),
        unreadable=unreadable[:_UNREADABLE],
        unreadable_count=len(unreadable),
        uncalibrated=MEMBER in verdicts.probabilities and MEMBER not in verdicts.fits.pool.weights,
        decided=decided,
        groups={name: decided[name] for name in verdicts.groups if decided[name]},
    )
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def suspicious(verdicts: Verdicts, count: int) -> list[int]:
    """Rows of the faces to look at: given labels that are disputed or unsure, the least likely first; then unsure faces without a label."""
    disputed = verdicts.is_issue | (verdicts.action >= ACTIONS.index("soften"))
    labelled = np.flatnonzero(verdicts.has_label & disputed)
    others = np.flatnonzero(verdicts.readable & (verdicts.given < 0) & disputed)
    ranked = [
        *labelled[np.argsort(verdicts.quality[labelled], kind="stable")],
        *others[np.argsort(verdicts.confidence[others], kind="stable")],
    ]
    return [int(row) for row in ranked[:count]]


def _suspects(verdicts: Verdicts, source: Source, rows: Sequence[int]) -> list[Suspect]:
    """The faces in the order of `rows`, in one pass over the source in which only they are decoded."""
    place = {verdicts.sample_ids[row]: row for row in rows}
    found: dict[int, Suspect] = {}
    for item in source.items() if rows else ():
        row = place.get(item.sample_id)
        if row is not None:
            image = data_uri(encode_webp(resize(item.pixels(), _SIDE), quality=88), "webp")
            found[row] = _suspect(verdicts, row, image)
        if len(found) == len(rows):
            break
    return [found[row] for row in rows]


def _suspect(verdicts: Verdicts, row: int, image: str) -> Suspect:
    classes, posterior = verdicts.classes, verdicts.posterior[row]
    seen = ((name, table[row]) for name, table in verdicts.probabilities.items())
    return Suspect(
        image,
        verdicts.sample_ids[row],
        classes[verdicts.given[row]] if verdicts.given[row] >= 0 else "",
        classes[verdicts.label[row]],
        ACTIONS[verdicts.action[row]],
        verdicts.reasons[row],
        tuple((name.replace("_", " "), classes[int(table.argmax())], float(table.max())) for name, table in seen),
        tuple((classes[index], float(posterior[index])) for index in np.argsort(-posterior, kind="stable")[:_RANKED]),
    )


def _filters(suspects: Sequence[Suspect], classes: Sequence[str]) -> dict[str, int]:
    """Faces on the page by the label that they came with, in the order of the classes."""
    counts = Counter(face.given or NO_LABEL for face in suspects)
    return {name: counts[name] for name in (*classes, NO_LABEL) if counts[name]}


def _counts(actions: np.ndarray) -> dict[str, int]:
    return {name: int((actions == index).sum()) for index, name in enumerate(ACTIONS)}


def _by_given(verdicts: Verdicts) -> list[dict[str, Any]]:
    """One row a given label: images, actions, disputed labels."""
    rows = []
    for index, name in [*enumerate(verdicts.classes), (-1, NO_LABEL)]:
        wanted = verdicts.readable & (verdicts.given == index)
        if wanted.any():
            disputed = int(verdicts.is_issue[wanted].sum()) if index >= 0 else None
            rows.append({"given": name, "images": int(wanted.sum()), **_counts(verdicts.action[wanted]), "disputed": disputed})
    return rows


def _confusion(verdicts: Verdicts) -> list[tuple[str, list[Cell]]]:
    """Given labels in rows, the likeliest ones in columns; empty where nothing came with a label."""
    size = len(verdicts.classes)
    counts = np.zeros((size, size), dtype=int)
    np.add.at(counts, (verdicts.given[verdicts.has_label], verdicts.label[verdicts.has_label]), 1)
    table = []
    for index, name in enumerate(verdicts.classes):
        total = max(int(counts[index].sum()), 1)
        cells = [Cell(int(count), int(count) / total, column == index) for column, count in enumerate(counts[index])]
        if counts[index].any():
            table.append((name, cells))
    return table
