"""KDEF (Lundqvist, Flykt & Öhman 1998): 70 actors, seven posed expressions, five angles, two sessions; 4,900 pictures of 562 x 762 pixels.

Non-commercial research, on request at https://kdef.se. A file name says all, `AF01ANS.JPG`: session, sex, number, expression, angle; so
there is no order of labels. An actor is sex and number, the same person in both sessions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from synfer.datasets.entries import DatasetError, Entry, Format, Item, Layout, LeftOut, Problem
from synfer.datasets.files import images, name_of
from synfer.vocabulary import unknown

LABELS = {
    "AF": "fear", "AN": "anger", "DI": "disgust", "HA": "happiness", "NE": "neutral", "SA": "sadness", "SU": "surprise",
}  # fmt: skip
VIEWS = {"S": "straight", "HL": "half left profile", "HR": "half right profile", "FL": "full left profile", "FR": "full right profile"}
PUBLISHED = dict.fromkeys(LABELS.values(), 700)

_SEXES = {"F": "woman", "M": "man"}
_NAME = re.compile(r"([AB])([FM])(\d{2})([A-Z]{2})([A-Z]{1,2})", re.IGNORECASE)


def read(root: Path, *, views: Sequence[str] = tuple(VIEWS)) -> Iterator[Entry]:
    """Images below the root, whatever folder they lie in; those of other angles than `views` are left out."""
    for view in views:
        if view not in VIEWS:
            raise DatasetError(unknown("view", view, VIEWS))
    for file in images(root):
        yield _entry(file, root, views)


def _entry(file: Path, root: Path, views: Sequence[str]) -> Entry:
    found = _NAME.fullmatch(file.stem)
    if found is None:
        return Problem(str(file), "not a name of KDEF, such as AF01ANS.JPG")
    _, sex, number, code, view = (part.upper() for part in found.groups())
    if code not in LABELS:
        return Problem(str(file), unknown("label", code, LABELS))
    if view not in VIEWS:
        return Problem(str(file), unknown("view", view, VIEWS))
    if view not in views:
        return LeftOut(str(file), VIEWS[view])
    return Item(
        name_of(file, root), str(file), file.read_bytes, expression=LABELS[code], identity=f"{sex}{number}", attributes={"sex": _SEXES[sex]}
    )


FORMAT = Format(
    title="KDEF",
    licence="non-commercial research; no redistribution",
    source="https://kdef.se",
    layouts=(Layout("files", "AF01/AF01ANS.JPG", lambda root: root.is_dir() and any(_NAME.fullmatch(f.stem) for f in images(root)), read),),
    published=PUBLISHED,
)
