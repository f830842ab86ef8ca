"""AUs within ranges: an AU vector drawn from the prior of an expression, then brought into what a plan asks for.

A bilateral code (12) asks for both halves of the face, L12 and R12 for one; ranges of a half that are asked twice must overlap.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from synfer.faces.expression import ESSENTIAL, draw_aus, draw_compound_aus
from synfer.vocabulary import (
    AU_INDEX,
    AU_NAMES,
    COMPOUNDS,
    EXCLUSIONS,
    MAX_INTENSITY,
    PROTOTYPES,
    SIDED_AUS,
    VocabularyError,
    exclusion_conflicts,
    left_right,
    set_left_right,
)

Range = tuple[float, float]
_ANY: Range = (0.0, MAX_INTENSITY)
_ROUNDING = 1e-3  # AU vectors are float32
_TRIES = 200  # draws of the prior until one still shows its expression; one in two does where a variant of it is ruled out


def check_ranges(ranges: Mapping[str, Range]) -> None:
    """Raise VocabularyError if no face can keep the ranges: AUs that exclude each other, or halves of a face without an intensity left."""
    sides = _by_side(ranges)
    for a, b in EXCLUSIONS:
        if all(code in sides and sides[code][0][0] > 0 for code in (a, b)):
            raise VocabularyError(f"AU {a} ({AU_NAMES[a]}) and AU {b} ({AU_NAMES[b]}) exclude each other on one face; ask for one of them")


def in_ranges(vector: np.ndarray, ranges: Mapping[str, Range]) -> bool:
    """Whether an AU vector (AU_COUNT,) keeps the ranges; an unknown intensity (NaN) does not."""
    for unit, wanted in _by_side(ranges).items():
        for shown, (low, high) in zip(left_right(vector, unit), wanted, strict=True):
            if not low - _ROUNDING <= float(shown) <= high + _ROUNDING:
                return False
    return True


def draw_within(expression: str, ranges: Mapping[str, Range], rng: np.random.Generator) -> np.ndarray:
    """An AU vector, float32 (AU_COUNT,), of a basic or a compound expression that keeps the ranges and the exclusion rules.

    What lies in its range stays as the prior drew it, the rest is drawn anew, uniformly; an AU that nobody asked for gives way to one that
    excludes it. Raises VocabularyError if no face keeps the ranges and still shows a basic expression's essential AUs.
    """
    check_ranges(ranges)
    if expression in COMPOUNDS:
        return _into_ranges(draw_compound_aus(expression, rng), ranges, rng)
    for _ in range(_TRIES):
        vector = _into_ranges(draw_aus(expression, rng), ranges, rng)
        if _shows(expression, vector):
            return vector
    raise VocabularyError(
        f"no face shows {expression} and keeps {', '.join(f'AU {code} in {low:g}..{high:g}' for code, (low, high) in ranges.items())}: "
        f"{expression} needs AU {', '.join(ESSENTIAL[expression])}"
    )


def _into_ranges(drawn: np.ndarray, ranges: Mapping[str, Range], rng: np.random.Generator) -> np.ndarray:
    vector, sides = drawn.copy(), _by_side(ranges)
    for unit, (for_left, for_right) in sides.items():
        left, right = (float(side) for side in left_right(vector, unit))
        if for_left == for_right and not (_inside(left, for_left) and _inside(right, for_right)):
            left = right = float(rng.uniform(*for_left))
        left = left if _inside(left, for_left) else float(rng.uniform(*for_left))
        right = right if _inside(right, for_right) else float(rng.uniform(*for_right))
        if unit in SIDED_AUS:
            set_left_right(vector, unit, left=left, right=right)
        else:
            vector[AU_INDEX[unit]] = left
    while conflicts := exclusion_conflicts(vector):
        vector[AU_INDEX[_gives_way(*conflicts[0], vector, sides)]] = 0.0
    return vector


def _gives_way(a: str, b: str, vector: np.ndarray, sides: Mapping[str, tuple[Range, Range]]) -> str:
    """Of two AUs that exclude each other the one that need not be there: not asked, else the weaker."""
    needed_a, needed_b = (sides.get(code, (_ANY, _ANY))[0][0] > 0 for code in (a, b))
    if needed_a != needed_b:
        return b if needed_a else a
    return b if vector[AU_INDEX[a]] >= vector[AU_INDEX[b]] else a


def _shows(expression: str, vector: np.ndarray) -> bool:
    """Whether the essential AUs of the prototype, or of one of its variants, are all there."""
    essential = ESSENTIAL.get(expression, ())
    cores = (PROTOTYPES[expression].core, *PROTOTYPES[expression].variants)
    needed = [[code for code in core if code in essential] for core in cores]
    return any(all(max(map(float, left_right(vector, code))) > 0 for code in core) for core in needed)


def _by_side(ranges: Mapping[str, Range]) -> dict[str, tuple[Range, Range]]:
    """The ranges of every asked unit on the person's left and right."""
    found: dict[str, tuple[Range, Range]] = {}
    for code, asked in ranges.items():
        side, unit = (code[0], code[1:]) if code[0] in "LR" else ("", code)
        left, right = found.get(unit, (_ANY, _ANY))
        found[unit] = (left if side == "R" else _overlap(left, asked, unit), right if side == "L" else _overlap(right, asked, unit))
    return found


def _overlap(one: Range, other: Range, unit: str) -> Range:
    low, high = max(one[0], other[0]), min(one[1], other[1])
    if low > high:
        raise VocabularyError(
            f"AU {unit} is asked twice for the same half of the face, in {one[0]:g}..{one[1]:g} and in {other[0]:g}..{other[1]:g}"
        )
    return low, high


def _inside(value: float, wanted: Range) -> bool:
    return wanted[0] <= value <= wanted[1]
