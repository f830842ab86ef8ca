"""Faces: a person, a set of action units and a scene; what the renderer draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synfer.faces.expression import draw_aus, draw_independent_aus
from synfer.faces.scene import Scene, draw_scene
from synfer.vocabulary import check_expression


@dataclass(frozen=True, eq=False)
class Face:
    """One sample of the corpus; `expression` is empty where the AUs were drawn independently, `aus` is float32 (AU_COUNT,)."""

    seed: int
    identity: int
    expression: str
    aus: np.ndarray
    scene: Scene
    independent_aus: bool = False


def draw_face(seed: int, *, identity: int, expression: str, independent_aus: bool = False) -> Face:
    """The face of this seed: one generator draws its AUs and its scene. Raises VocabularyError on an unknown expression.

    With `independent_aus` the expression is ignored and the face has none ("").
    """
    rng = np.random.default_rng(seed)
    if independent_aus:
        return Face(seed, identity, "", draw_independent_aus(rng), draw_scene(rng), independent_aus=True)
    check_expression(expression)
    return Face(seed, identity, expression, draw_aus(expression, rng), draw_scene(rng))
