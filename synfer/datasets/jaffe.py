"""JAFFE (Lyons et al. 1998; 2020, arXiv 2009.05938): 213 posed faces of ten Japanese women, grey, 256 pixels.

Non-commercial research, on request at https://zenodo.org/records/3451524. A file name says all, `KA.AN1.39.tiff`: subject, expression and
take, serial; so there is no order of labels. The subject NA is a person, not a gap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from synfer.datasets.entries import Entry, Format, Item, Layout, Problem
from synfer.datasets.files import images, name_of
from synfer.vocabulary import unknown

LABELS = {
    "AN": "anger", "DI": "disgust", "FE": "fear", "HA": "happiness", "NE": "neutral", "SA": "sadness", "SU": "surprise",
}  # fmt: skip
PUBLISHED = {"anger": 30, "disgust": 29, "fear": 32, "happiness": 31, "neutral": 30, "sadness": 31, "surprise": 30}

_NAME = re.compile(r"([A-Z]{2})\.([A-Z]{2})\d+\.\d+", re.IGNORECASE)


def read(root: Path) -> Iterator[Entry]:
    """Images below the root, whatever folder they lie in."""
    for file in images(root):
        found = _NAME.fullmatch(file.stem)
        if found is None:
            yield Problem(str(file), "not a name of JAFFE, such as KA.AN1.39.tiff")
            continue
        subject, code = (part.upper() for part in found.groups())
        if code not in LABELS:
            yield Problem(str(file), unknown("label", code, LABELS))
            continue
        yield Item(name_of(file, root), str(file), file.read_bytes, expression=LABELS[code], identity=subject, attributes={"sex": "woman"})


FORMAT = Format(
    title="JAFFE",
    licence="non-commercial research; no redistribution",
    source="https://zenodo.org/records/3451524",
    layouts=(Layout("files", "KA.AN1.39.tiff", lambda root: root.is_dir() and any(_NAME.fullmatch(f.stem) for f in images(root)), read),),
    published=PUBLISHED,
)
