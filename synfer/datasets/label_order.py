"""Were the numbers of the classes shifted? Two witnesses can tell.

The counts that were published: a table read in the wrong order gives classes of the wrong size. And a classifier that knows such faces: it
sees another expression wherever a class stands in the place of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

ENOUGH = 200
"""Images from which shares are compared: below, chance alone moves them."""

_FAR = 0.1  # total variation distance that neither a subset nor a cleaned copy of a published set comes to
_NEAR = 0.05  # distance that another order may leave to be the explanation


def label_order_warnings(found: Mapping[str, int], published: Mapping[str, int]) -> list[str]:
    """What is strange in counts per expression beside the published ones: the class that is wildly off, and the order that would fit."""
    names = [name for name in published if published[name]]
    counts = np.array([found.get(name, 0) for name in names], dtype=float)
    if not names or counts.sum() < ENOUGH:
        return []
    here, there = counts / counts.sum(), np.array([published[name] for name in names]) / sum(published[name] for name in names)
    distance = np.abs(here - there).sum() / 2
    if distance <= _FAR:
        return []
    worst = int(np.argmax(np.abs(here - there)))
    told = f"{names[worst]} has {here[worst]:.0%} of the images, {there[worst]:.0%} in the published set"
    _, order = linear_sum_assignment(np.abs(here[:, None] - there[None, :]))
    if np.abs(here - there[order]).sum() / 2 <= _NEAR:
        moved = [f"what is read as {names[row]} has the share of {names[column]}" for row, column in enumerate(order) if row != column]
        return [f"{told}; are the labels in another order? {', '.join(moved)}"]
    return [told]


# --- by a classifier --------------------------------------------------------------------------------------------------------------

_ABOVE_CHANCE = 0.15
"""What the best order must have beyond chance, or the classifier does not know such faces."""
_BY_FAR = 2.0  # how many times as often the moved classes are seen in the other order
_SURE = 3.0  # standard errors by which they are
_SHUFFLES = 200


@dataclass(frozen=True)
class LabelReading:
    """How a classifier reads labelled images: mean over the classes of the share that it sees as labelled, and in the best of all orders.

    `by_chance` is what the best order would reach at most if labels and images had nothing to do with one another; `reads` says whether the
    classifier is beyond that. `moved` names, for every class that seems to stand for another, the class that is seen there.
    """

    images: int
    as_claimed: float
    best: float
    by_chance: float
    reads: bool
    moved: Mapping[str, str] = field(default_factory=dict)


def read_labels(claimed: Sequence[str], probabilities: np.ndarray, classes: Sequence[str], *, seed: int = 0) -> LabelReading:
    """Compare the claimed labels of N images with probabilities (N, K) of the classes.

    The best order is the assignment of claimed to seen classes with the largest mean share (Kuhn 1955). It explains the labels only where
    the classes that it moves are seen there twice as often as under their own names, and by more than three standard errors.
    """
    present = [name for name in classes if name in set(claimed)]
    truth = np.array([present.index(name) for name in claimed], dtype=np.int64)
    seen = np.asarray(probabilities)[:, [list(classes).index(name) for name in present]].argmax(axis=1) if present else truth
    shares = _shares(truth, seen, len(present))
    if not present:
        return LabelReading(0, 0.0, 0.0, 0.0, reads=False)
    order, best = _best_order(shares)
    rng = np.random.default_rng(seed)
    by_chance = float(np.quantile([_best_order(_shares(rng.permutation(truth), seen, len(present)))[1] for _ in range(_SHUFFLES)], 0.99))
    reads = best > max(by_chance, 1 / len(present) + _ABOVE_CHANCE)
    moved = {present[row]: present[column] for row, column in enumerate(order) if row != column}
    explained = reads and bool(moved) and _explains(truth, seen, order)
    return LabelReading(len(truth), float(np.diag(shares).mean()), best, by_chance, reads, moved if explained else {})


def _shares(truth: np.ndarray, seen: np.ndarray, classes: int) -> np.ndarray:
    """Confusion (K, K): of each claimed class (rows) the share seen as each class (columns)."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (truth, seen), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _best_order(shares: np.ndarray) -> tuple[np.ndarray, float]:
    rows, columns = linear_sum_assignment(-shares)
    return columns, float(shares[rows, columns].mean())


def _explains(truth: np.ndarray, seen: np.ndarray, order: np.ndarray) -> bool:
    """Whether images of the moved classes are seen in the other order by far, and surely, more often than in the claimed one."""
    moved = order[truth] != truth
    there, here = seen[moved] == order[truth[moved]], seen[moved] == truth[moved]
    gain = there.astype(float) - here
    return bool(there.mean() >= _BY_FAR * here.mean() and gain.mean() > _SURE * gain.std() / np.sqrt(len(gain)))
