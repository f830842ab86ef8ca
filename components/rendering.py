"""Sheets of rendered faces for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from synfer.faces.face import Face, draw_face
from synfer.faces.renderer import render
from synfer.faces.sheet import labelled_sheet
from synfer.files import whole_file
from synfer.seeding import derive_seed
from synfer.vocabulary import (
    AU_INDEX,
    DEFAULT_EXPRESSIONS,
    SIDED_AUS,
    au_vector,
    check_au,
    check_exclusions,
    check_expression,
    exclusion_conflicts,
)

_SHOWN_PEOPLE = 1_000_000  # far from the identities of the corpus and of the assets
_SHEET_CELL = 128  # pixels a face on the sheet, about


def render_sheet(
    out: Path, *, expressions: Sequence[str] | None, aus: Mapping[str, float], columns: int, size: int, seed: int
) -> Path:
    """Write a PNG sheet: a row an expression (the default seven without any), a column a person; every face shows `aus` as well.

    Raises VocabularyError on an unknown expression or AU, a bad intensity, or AUs that exclude each other.
    """
    rows = [check_expression(name) for name in expressions or DEFAULT_EXPRESSIONS]
    check_exclusions(au_vector(aus))
    faces = [_face(name, column, aus, seed) for name in rows for column in range(columns)]
    extra = " " + " ".join(f"{code}={value:g}" for code, value in aus.items()) if aus else ""
    titles = [f"{name}{extra}" for name in rows]
    sheet = labelled_sheet(render(faces, size=size), columns=columns, row_titles=titles, scale=max(1, _SHEET_CELL // size))
    with whole_file(out) as temporary:
        sheet.save(temporary, format="PNG")
    return out


def with_aus(vector: np.ndarray, asked: Mapping[str, float]) -> np.ndarray:
    """A copy of an AU vector (AU_COUNT,) with the asked intensities; what was there and excludes one of them gives way."""
    codes = {check_au(code) for code in asked}
    given_way = {f"{side}{code}" for code in codes & set(SIDED_AUS) for side in "LR"} - codes
    changed = vector.copy()
    for code in given_way:
        changed[AU_INDEX[code]] = 0.0
    wanted = au_vector(asked)
    for code in codes:
        changed[AU_INDEX[code]] = wanted[AU_INDEX[code]]
    for a, b in exclusion_conflicts(changed):
        changed[AU_INDEX[b if a in codes else a]] = 0.0
    return changed


def _face(expression: str, column: int, aus: Mapping[str, float], seed: int) -> Face:
    """The face of a row and a column; a column is one person."""
    identity = _SHOWN_PEOPLE + derive_seed("people", seed, column) % _SHOWN_PEOPLE
    face = draw_face(derive_seed("sheet", seed, expression, column), identity=identity, expression=expression)
    return replace(face, aus=with_aus(face.aus, aus))
