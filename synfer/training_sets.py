"""Names of training sets: which parts a classifier learns from, in which ratio and in which order.

| name | meaning |
| --- | --- |
| `real` | one part alone |
| `real+synthetic` | both parts together, every image equally often |
| `real:1+synthetic:3` | both parts, one real image for every three synthetic ones, whatever the parts' sizes |
| `synthetic>real` | first the one, then the other: pre-train on synthetic, fine-tune on real |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synfer.errors import SynferError
from synfer.vocabulary import unknown

REAL, SYNTHETIC = "real", "synthetic"
PARTS = (REAL, SYNTHETIC)
SYNTAX = "write real, real+synthetic, real:1+synthetic:3 (a ratio) or synthetic>real (one after the other)"


class TrainingSetError(SynferError):
    """A training set that cannot be read, or has no images; the message names it."""


@dataclass(frozen=True)
class Phase:
    """Parts that are learnt together; `ratio` holds a share a part, or is None where every image counts the same."""

    parts: tuple[str, ...]
    ratio: tuple[float, ...] | None = None


def parse_training_set(name: str, *, parts: Sequence[str] = PARTS) -> tuple[Phase, ...]:
    """The phases of a training set, in their order; raises TrainingSetError with the syntax or the known parts."""
    return tuple(_phase(text, name, parts) for text in name.split(">"))


def check_training_set(name: str) -> str:
    """The name itself; raises TrainingSetError if it is none."""
    parse_training_set(name)
    return name


def _phase(text: str, name: str, known: Sequence[str]) -> Phase:
    pairs = [part.partition(":") for part in text.split("+")]
    for part, _, _ in pairs:
        if part not in known:
            raise TrainingSetError(f"training set {name!r}: {unknown('part', part, known)}; {SYNTAX}")
    parts = tuple(part for part, _, _ in pairs)
    if len(set(parts)) < len(parts):
        raise TrainingSetError(f"training set {name!r} names a part twice; {SYNTAX}")
    given = [bool(colon) for _, colon, _ in pairs]
    if not any(given):
        return Phase(parts)
    if not all(given) or len(parts) == 1:
        raise TrainingSetError(f"training set {name!r}: a ratio needs a number for each of two or more parts; {SYNTAX}")
    return Phase(parts, tuple(_number(number, name) for _, _, number in pairs))


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise TrainingSetError(f"training set {name!r}: {text!r} is no positive number; {SYNTAX}")
    return value
