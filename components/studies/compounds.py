"""Compound expressions as classes that no training has seen: faces drawn by the procedural renderer, whose truth is exact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from synfer.faces.expression import draw_compound_aus
from synfer.faces.face import Face
from synfer.faces.renderer import render
from synfer.faces.scene import draw_scene
from synfer.seeding import derive_seed
from synfer.vocabulary import COMPOUNDS

_FIRST_PERSON = 900_000  # nobody of any corpus or model that is embedded here


@dataclass(frozen=True)
class Compounds:
    """Images uint8 (N, S, S, 3) and the compound expression (N,) that each shows."""

    images: np.ndarray
    labels: np.ndarray


@lru_cache(1)
def draw_compounds(count: int, *, size: int, seed: int) -> Compounds:
    """`count` faces of every compound expression, each of a person of its own."""
    labels = [name for name in COMPOUNDS for _ in range(count)]
    faces = []
    for number, name in enumerate(labels):
        own = derive_seed(seed, "studies", "compound", number)
        rng = np.random.default_rng(own)
        faces.append(Face(own, _FIRST_PERSON + number, name, draw_compound_aus(name, rng), draw_scene(rng)))
    return Compounds(render(faces, size=size), np.array(labels))
