"""Expressions as action units: random AU vectors around the EMFACS prototypes, and random AUs of no expression at all."""

from __future__ import annotations

import numpy as np

from synfer.faces.actions import SUPPORTED_AUS
from synfer.vocabulary import (
    AU_COUNT,
    AU_INDEX,
    COMPOUNDS,
    MAX_INTENSITY,
    PROTOTYPES,
    SIDED_AUS,
    VocabularyError,
    check_expression,
    exclusion_conflicts,
    left_right,
    resolve_exclusions,
    set_left_right,
    unknown,
)

WEAKEST = 1.6
"""Least intensity of an AU that makes an expression: below it the face passes for neutral."""

DISTRACTOR = 1.2
ESSENTIAL: dict[str, tuple[str, ...]] = {
    "happiness": ("12",),
    "sadness": ("1",),
    "surprise": ("1", "26", "27"),
    "fear": ("1", "4", "20"),
    "disgust": ("9", "10"),
    "anger": ("4", "23", "24"),
}
"""Core AUs that are never dropped: without them the expression is another one."""

BILATERAL_AUS: tuple[str, ...] = tuple(code for code in SUPPORTED_AUS if code[0] not in "LR")


def _may_join(vector: np.ndarray, code: str) -> bool:
    """Whether an AU is supported, still absent, and excluded by none that is present."""
    if code not in SUPPORTED_AUS or any(vector[AU_INDEX[c]] > 0 for c in (code, f"L{code}", f"R{code}") if c in AU_INDEX):
        return False
    joined = vector.copy()
    joined[AU_INDEX[code]] = 1.0
    return not exclusion_conflicts(joined)


def _draw_core(expression: str, rng: np.random.Generator) -> list[str]:
    """Prototype or one of its variants, less the AUs dropped at random: at most a third of them and none that is essential."""
    prototype = PROTOTYPES[expression]
    choices = (prototype.core, *prototype.variants)
    # The prototype is drawn as often as all its variants together, except where a variant is its mirror image.
    odds = np.array([1.0] + [1.0 / max(len(prototype.variants), 1)] * len(prototype.variants))
    core = list(choices[int(rng.choice(len(choices), p=odds / odds.sum()))])
    may_drop = [code for code in core if code not in ESSENTIAL.get(expression, ())]
    for code in rng.permutation(may_drop)[: max(len(core) // 3, int(len(core) == 2))]:
        if rng.random() < 0.25:
            core.remove(code)
    return core


def _make_asymmetric(vector: np.ndarray, rng: np.random.Generator) -> None:
    """Weaken one side of some sided units by at most a fifth, in canonical form."""
    for unit in SIDED_AUS:
        intensity = float(vector[AU_INDEX[unit]])
        if intensity > 0 and rng.random() < 0.4:
            weaker = intensity * (1.0 - rng.uniform(0.0, 0.2))
            left, right = (intensity, weaker) if rng.random() < 0.5 else (weaker, intensity)
            set_left_right(vector, unit, left=left, right=right)


def _add_distractors(vector: np.ndarray, rng: np.random.Generator, *, at_most: int) -> None:
    # Closed eyes (43) and wide jaws are no faint events of a face at rest.
    units = [code for code in BILATERAL_AUS if code not in ("43", "26", "27", "16", "22")]
    for code in rng.choice(units, size=int(rng.integers(0, at_most + 1)), replace=False):
        if _may_join(vector, code):
            vector[AU_INDEX[code]] = rng.uniform(0.0, DISTRACTOR)


def draw_aus(expression: str, rng: np.random.Generator) -> np.ndarray:
    """A random AU vector, float32 (AU_COUNT,), of an expression; neutral has faint AUs only. Raises VocabularyError if it is unknown.

    Intensities lie in 1.6..5 and are correlated within a face; distractors are below 1.2; no two AUs exclude each other.
    """
    check_expression(expression)
    vector = np.zeros(AU_COUNT, dtype=np.float32)
    strength = rng.uniform(1.9, 4.7)

    def intensity() -> float:
        return float(np.clip(strength + rng.normal(0.0, 0.6), WEAKEST, MAX_INTENSITY))

    for code in _draw_core(expression, rng):
        vector[AU_INDEX[code]] = intensity()
    for code in PROTOTYPES[expression].optional:
        if rng.random() < 0.4 and _may_join(vector, code):
            vector[AU_INDEX[code]] = intensity()
    _add_distractors(vector, rng, at_most=3)
    _make_asymmetric(vector, rng)
    return vector


def draw_compound_aus(compound: str, rng: np.random.Generator) -> np.ndarray:
    """A random AU vector, float32 (AU_COUNT,), of a compound expression ("happily surprised"): the AUs of both its expressions together.

    Where two of them exclude each other the weaker one gives way (Du et al. 2014: a compound combines the AUs of its parts, doi
    10.1073/pnas.1322355111). Raises VocabularyError if the compound is unknown.
    """
    if compound not in COMPOUNDS:
        raise VocabularyError(unknown("compound expression", compound, COMPOUNDS))
    first, second = (draw_aus(expression, rng) for expression in COMPOUNDS[compound])
    union = np.maximum(first, second)
    for unit in SIDED_AUS:
        left, right = left_right(union, unit)
        set_left_right(union, unit, left=float(left), right=float(right))
    return resolve_exclusions(union)


def draw_independent_aus(rng: np.random.Generator) -> np.ndarray:
    """1 to 6 random supported AUs of uniform intensity 0.5..5, float32 (AU_COUNT,); half of the sided ones act on one side only."""
    vector = np.zeros(AU_COUNT, dtype=np.float32)
    wanted = int(rng.integers(1, 7))
    for code in rng.permutation(BILATERAL_AUS):
        if np.count_nonzero(vector) == wanted:
            break
        if _may_join(vector, code):
            one_sided = code in SIDED_AUS and rng.random() < 0.5
            entry = f"{rng.choice(('L', 'R'))}{code}" if one_sided else code
            vector[AU_INDEX[entry]] = rng.uniform(0.5, MAX_INTENSITY)
    return vector
