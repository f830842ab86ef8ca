"""The arithmetic of a sweep: is the asked AU graded, do the others stay, does the asked side move, is the mirrored face the mirrored wish?

Every function takes the people to count (int (M,), with repetition), so that a bootstrap over people can call it.
"""

from __future__ import annotations

import numpy as np

from benchmarks.control.sweep import LEVELS, Sweep, columns
from synfer.metrics.agreement import pearson, spearman
from synfer.vocabulary import SIDED_AUS


def targets(sweep: Sweep) -> np.ndarray:
    """The judge's reading of the asked AU, (U, L, P); the mean of both sides where both are asked."""
    found = [rows[..., columns(sweep.outputs, code)].mean(axis=-1) for code, rows in zip(sweep.codes, sweep.estimates, strict=True)]
    return np.stack(found)


def spearmans(sweep: Sweep, people: np.ndarray) -> np.ndarray:
    """Rank correlation (U,) of read and asked intensity over all faces of an AU.

    Six levels tie the asked ranks, so that even a perfect response over many people stays at 0.986 (the square root of 1 - 1/36).
    """
    asked = np.repeat(LEVELS, len(people))
    return np.array([spearman(asked, found[:, people].ravel()) for found in targets(sweep)])


def slopes(sweep: Sweep, people: np.ndarray) -> np.ndarray:
    """Steps that the reading rises for a step asked, (U,): the least-squares line over all faces of an AU."""
    asked = LEVELS - LEVELS.mean()
    return targets(sweep)[:, :, people].mean(axis=2) @ asked / (asked @ asked)


def on_target(sweep: Sweep, people: np.ndarray) -> np.ndarray:
    """Mean change (U,) of the asked AU against the relaxed face of the same person, over the intensities above 0."""
    found = targets(sweep)[:, :, people]
    return (found[:, 1:] - found[:, :1]).mean(axis=(1, 2))


def off_target(sweep: Sweep, people: np.ndarray) -> np.ndarray:
    """Mean absolute change (U,) of the other units over the same faces; neither side of the asked unit counts, see `sides`."""
    estimates = sweep.estimates[:, :, people]
    change = np.abs(estimates[:, 1:] - estimates[:, :1]).mean(axis=(1, 2))  # (U, K)
    others = ~np.array([[_unit(name) == _unit(code) for name in sweep.outputs] for code in sweep.codes])
    return (change * others).sum(axis=1) / others.sum(axis=1)


def leakage(sweep: Sweep, people: np.ndarray) -> float:
    """Mean change of the other units for a step of the asked ones: a ratio of sums over AUs, so one without response cannot blow it up."""
    return _ratio(off_target(sweep, people).mean(), on_target(sweep, people).mean())


def leakages(sweep: Sweep, people: np.ndarray, *, least: float = 0.25) -> np.ndarray:
    """The same AU by AU, (U,); NaN where the asked AU changes by less than `least` steps."""
    change = on_target(sweep, people)
    return np.where(change < least, np.nan, off_target(sweep, people) / np.maximum(change, least))


def sides(sweep: Sweep, people: np.ndarray) -> dict[str, tuple[float, float]]:
    """Mean change of the asked and of the other side by one-sided code."""
    found = {}
    for code, rows in zip(sweep.codes, sweep.estimates, strict=True):
        if code != _unit(code):
            asked, other = (columns(sweep.outputs, name)[0] for name in (code, _partner(code)))
            change = (rows[1:, people] - rows[:1, people]).mean(axis=(0, 1))
            found[code] = float(change[asked]), float(change[other])
    return found


def separation(sweep: Sweep, people: np.ndarray) -> float:
    """How much of a one-sided wish stays on its side: 1 all of it, 0 both sides move alike, below 0 the wrong one; NaN without any."""
    changes = np.array(list(sides(sweep, people).values()))
    if not len(changes):
        return float("nan")
    asked, other = changes.sum(axis=0)
    return _ratio(asked - other, abs(asked) + abs(other))


def flip(sweep: Sweep, people: np.ndarray) -> tuple[float, float]:
    """The wish for the right side, mirrored, against the wish for the left: mean absolute difference in steps, and Pearson correlation.

    Compared are the mean readings of both sides at every intensity of every unit that was asked on both sides; NaN without any.
    """
    straight, mirrored = [], []
    for unit in SIDED_AUS:
        if {f"L{unit}", f"R{unit}"} <= set(sweep.codes):
            left, right = sweep.codes.index(f"L{unit}"), sweep.codes.index(f"R{unit}")
            both = columns(sweep.outputs, unit)
            straight.append(sweep.estimates[left][:, people][..., both].mean(axis=1))
            mirrored.append(sweep.mirrored[right][:, people][..., both].mean(axis=1))
    if not straight:
        return float("nan"), float("nan")
    first, second = np.ravel(straight), np.ravel(mirrored)
    return float(np.abs(first - second).mean()), pearson(first, second)


def matrix(sweep: Sweep) -> np.ndarray:
    """Mean change (U, K) of every output from intensity 0 to 5 of every asked AU."""
    return (sweep.estimates[:, -1] - sweep.estimates[:, 0]).mean(axis=1)


def _unit(code: str) -> str:
    return code.lstrip("LR")


def _partner(code: str) -> str:
    return code.translate(str.maketrans("LR", "RL"))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
