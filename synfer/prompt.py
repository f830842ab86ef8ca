"""A prompt: what somebody asks a generator to draw, checked before a model is read.

    happiness, or happily surprised                an expression, a compound one, or none
    12=3, L12=2                                    AUs and their intensities
    age=elderly, glasses=glasses                   attributes of the person
    12=0..5, 12=0..5:11                            a sweep: one AU from an intensity to another, in so many columns
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from synfer.vocabulary import (
    ATTRIBUTES,
    COMPOUNDS,
    EXPRESSIONS,
    MAX_INTENSITY,
    VocabularyError,
    au_vector,
    check_attributes,
    check_au,
    check_exclusions,
    unknown,
)

MAX_COLUMNS = 21
"""Most columns of a sweep: 0..5 in steps of a quarter."""

_SWEEP = re.compile(r"\s*([^=]+?)\s*=\s*(\d+\.?\d*)\s*\.\.\s*(\d+\.?\d*)\s*(?::\s*(\d+))?\s*")


@dataclass(frozen=True)
class Sweep:
    """One AU over intensities 0..5, all else the same."""

    au: str
    intensities: tuple[float, ...]


@dataclass(frozen=True)
class Prompt:
    """A checked prompt, made by `make_prompt`; AU codes are canonical, `expression` is "" for none."""

    expression: str
    aus: dict[str, float]
    attributes: dict[str, str]
    caption: str | None
    sweeps: tuple[Sweep, ...]


def make_prompt(
    expression: str = "",
    *,
    aus: Mapping[str, float] | None = None,
    attributes: Mapping[str, str] | None = None,
    caption: str | None = None,
    sweeps: Iterable[Sweep | str] = (),
) -> Prompt:
    """The checked prompt; a sweep may be given as text.

    Raises VocabularyError on an unknown expression, AU, attribute or value, on AUs that exclude each other, on an AU that is both asked
    and swept, on sweeps of different length, and on attributes beside a caption that would replace the one that names them.
    """
    asked = {check_au(code): float(value) for code, value in (aus or {}).items()}
    check_exclusions(au_vector(asked))
    ranges = tuple(parse_sweep(sweep) if isinstance(sweep, str) else _checked(sweep) for sweep in sweeps)
    for sweep in ranges:
        if sweep.au in asked:
            raise VocabularyError(f"AU {sweep.au} is both asked ({asked[sweep.au]:g}) and swept; give it once")
        check_exclusions(au_vector({**asked, sweep.au: max(sweep.intensities)}))
    if len({len(sweep.intensities) for sweep in ranges}) > 1:
        found = " and ".join(f"{sweep.au} has {len(sweep.intensities)}" for sweep in ranges)
        raise VocabularyError(f"sweeps of one sheet need the same number of columns; {found}. Give it, for example 12=0..5:6")
    if caption is not None and attributes:
        raise VocabularyError(f"a caption replaces the one that names {', '.join(attributes)}; write it into the caption")
    return Prompt(_check_expression(expression), asked, check_attributes(attributes or {}), caption, ranges)


def parse_sweep(text: str) -> Sweep:
    """Read "12=0..5" (a column each whole step) or "12=0..5:11" (eleven columns); raises VocabularyError naming what is wrong."""
    match = _SWEEP.fullmatch(text)
    if match is None:
        raise VocabularyError(f"cannot read sweep {text!r} as AU=FROM..TO or AU=FROM..TO:COLUMNS, for example 12=0..5 or L12=0..5:11")
    first, last = float(match[2]), float(match[3])
    columns = int(match[4]) if match[4] else max(round(abs(last - first)) + 1, 2)
    if not 2 <= columns <= MAX_COLUMNS or first == last:
        raise VocabularyError(f"sweep {text!r} must go from one intensity to another in 2 to {MAX_COLUMNS} columns")
    return _checked(Sweep(match[1], tuple(round(float(value), 3) for value in np.linspace(first, last, columns))))


def parse_attributes(texts: Iterable[str]) -> dict[str, str]:
    """Read "age=elderly" or "age=elderly,sex=man" into attributes by name; raises VocabularyError naming what is unknown."""
    found: dict[str, str] = {}
    for part in filter(None, (piece.strip() for text in texts for piece in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise VocabularyError(f"cannot read {part!r} as ATTRIBUTE=VALUE, for example age=elderly; known: {', '.join(ATTRIBUTES)}")
        found[name] = value
    return check_attributes(found)


def _checked(sweep: Sweep) -> Sweep:
    """The sweep with a canonical AU code."""
    low, high = min(sweep.intensities, default=-1.0), max(sweep.intensities, default=-1.0)
    if not 0.0 <= low <= high <= MAX_INTENSITY:
        raise VocabularyError(f"sweep of AU {sweep.au} over {sweep.intensities} must stay in 0..5 (0 absent, 5 maximum)")
    return Sweep(check_au(sweep.au), tuple(map(float, sweep.intensities)))


def _check_expression(name: str) -> str:
    if name not in ("", *EXPRESSIONS, *COMPOUNDS):
        raise VocabularyError(unknown("expression", name, (*EXPRESSIONS, *COMPOUNDS)))
    return name
