"""Which rows an epoch sees: each one once, every class as often, or parts of the training set in a given ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from synfer.classifiers.examples import ExamplesError


@dataclass(frozen=True)
class EpochRows:
    """Groups of row numbers and how many rows an epoch draws of each.

    A group is used up before one of its rows comes again, so that a small group repeats and a large one is seen in part. Called with a
    generator it gives the rows of one epoch, int (rows,), in random order.
    """

    groups: tuple[np.ndarray, ...]
    counts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows of an epoch."""
        return sum(self.counts)

    def __call__(self, generator: torch.Generator) -> np.ndarray:
        drawn = [_cycle(group, count, generator) for group, count in zip(self.groups, self.counts, strict=True)]
        return np.concatenate(drawn)[torch.randperm(self.rows, generator=generator).numpy()]


def epoch_rows(
    sizes: Sequence[int], shares: Sequence[float], *, rows: int = 0, labels: np.ndarray | None = None, weights: np.ndarray | None = None
) -> EpochRows:
    """The rows of a training set whose parts of `sizes` rows lie one after the other and are drawn in the ratio `shares`.

    An epoch has `rows` rows, 0 for as many as there are. With `labels` int (N,) every class of a part is drawn as often as another (class-
    balanced sampling); rows of no weight are never drawn. Raises ExamplesError if a part has nothing to draw.
    """
    ends = np.cumsum(sizes)
    usable = np.ones(ends[-1], bool) if weights is None else weights > 0
    groups, wanted = [], []
    for number, (end, size, share) in enumerate(zip(ends, sizes, shares, strict=True)):
        part = np.arange(end - size, end)[usable[end - size : end]]
        if not len(part):
            raise ExamplesError(f"part {number + 1} of the training set has no image of positive weight")
        classes = [part] if labels is None else [part[labels[part] == label] for label in np.unique(labels[part])]
        groups += classes
        wanted += [share / len(classes)] * len(classes)
    return EpochRows(tuple(groups), _apportion(wanted, rows or int(ends[-1])))


def _apportion(shares: Sequence[float], rows: int) -> tuple[int, ...]:
    """Whole numbers in the ratio of the shares that sum to `rows` (differences of the rounded running sum)."""
    ends = np.round(np.cumsum(shares) / np.sum(shares) * rows).astype(int)
    return tuple(int(count) for count in np.diff(ends, prepend=0))


def _cycle(group: np.ndarray, count: int, generator: torch.Generator) -> np.ndarray:
    """`count` rows of a group: whole permutations of it and the beginning of one more."""
    turns = [group[torch.randperm(len(group), generator=generator).numpy()] for _ in range(-(-count // len(group)))]
    return np.concatenate([*turns, group[:0]])[:count]
