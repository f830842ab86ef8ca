"""Were the numbers of the classes shifted? Published counts tell: a table read in the wrong order gives classes of the wrong size."""

from __future__ import annotations

from collections.abc import Mapping

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
