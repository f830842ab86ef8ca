"""How unequally a classifier serves groups of people: the recall of the worst group minus that of the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synfer.metrics.bootstrap import Interval, interval, percentiles, resample_counts
from synfer.metrics.classification import UAR, Metric, check_predictions

SMALLEST = 30
"""Rows from which a group's recall says anything."""

_PERMUTATIONS = 200


@dataclass(frozen=True)
class GroupGap:
    """Metric of every group with its interval, and of the worst one minus the best one.

    `by_chance` is the gap that groups of these sizes show when they differ in nothing (mean over random assignments of the rows): the
    worst and the best of several are never equal. `small` are the groups that were left out for having too few rows.
    """

    groups: Mapping[str, Interval]
    worst: str
    best: str
    gap: Interval
    by_chance: float
    small: Mapping[str, int]


def group_gap(
    truth: np.ndarray,
    probabilities: np.ndarray,
    groups: Sequence[str],
    *,
    people: Sequence[str] | None = None,
    metric: Metric = UAR,
    smallest: int = SMALLEST,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> GroupGap | None:
    """The gap between groups, named row by row; rows without a name ("") take no part. None where fewer than two groups are large enough.

    `truth` int (N,), `probabilities` float (N, K). The interval of the gap is that of the two groups found to be extreme. With `people`,
    who is on every row, people are drawn and not rows: several images of one person say less about a group than as many people do.
    """
    check_predictions(truth, probabilities)
    named = np.asarray([str(name) for name in groups])
    sizes = {str(name): int(count) for name, count in zip(*np.unique(named[named != ""], return_counts=True), strict=True)}
    large = [name for name, count in sizes.items() if count >= smallest]
    if len(large) < 2:
        return None
    rows, classes = metric.rows(truth, probabilities), probabilities.shape[1]
    member = np.stack([named == name for name in large]).astype(np.float64)  # (groups, N)
    values = metric.combine(member @ rows, classes)
    worst, best = int(values.argmin()), int(values.argmax())
    drawn = []
    person = np.arange(len(truth)) if people is None else np.unique(np.asarray(people), return_inverse=True)[1]
    for drawn_people in resample_counts(int(person.max()) + 1, resamples, seed):
        counts = drawn_people[:, person]
        of_worst, of_best = (metric.combine((counts * member[index]) @ rows, classes) for index in (worst, best))
        drawn.append(of_worst - of_best)
    count = sizes[large[worst]] + sizes[large[best]]
    settings: dict[str, Any] = {"resamples": resamples, "confidence": confidence, "seed": seed}
    return GroupGap(
        groups={
            name: interval(metric, truth[named == name], probabilities[named == name], groups=person[named == name].tolist(), **settings)
            for name in large
        },
        worst=large[worst],
        best=large[best],
        gap=percentiles(float(values[worst] - values[best]), np.concatenate(drawn), confidence, count),
        by_chance=_by_chance(metric, rows, member, person, classes, seed),
        small={name: count for name, count in sizes.items() if count < smallest},
    )


def _by_chance(metric: Metric, rows: np.ndarray, member: np.ndarray, person: np.ndarray, classes: int, seed: int) -> float:
    """Mean gap when the groups are dealt out anew, the rows of a person together."""
    rng = np.random.default_rng(seed)
    taking_part = member.any(axis=0)
    member, rows, person = member[:, taking_part], rows[taking_part], person[taking_part]
    grouped = member[:, np.argsort(member.argmax(axis=0), kind="stable")]  # so that a person's rows, which stay together, meet one group
    gaps = []
    for _ in range(_PERMUTATIONS):
        shuffled = rng.permutation(person.max() + 1)[person]
        values = metric.combine(grouped @ rows[np.argsort(shuffled, kind="stable")], classes)
        gaps.append(values.min() - values.max())
    return float(np.mean(gaps))
