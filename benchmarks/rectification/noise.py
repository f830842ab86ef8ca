"""Noise that is put into labels whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synfer.annotation.calibration import draw_classes
from synfer.faces.annotators import CONFUSIONS

SYMMETRIC, CONFUSION = "symmetric", "confusion"
KINDS = (SYMMETRIC, CONFUSION)


def wrong_labels(kind: str, classes: Sequence[str]) -> np.ndarray:
    """P(label | true class, the label is wrong) (K, K): any other class alike, or as people confuse the expressions."""
    table = np.ones((len(classes), len(classes)))
    if kind == CONFUSION:
        table = np.array([[CONFUSIONS[true].get(name, 0.0) for name in classes] for true in classes])
    np.fill_diagonal(table, 0.0)
    return table / table.sum(axis=1, keepdims=True)


def inject(truth: np.ndarray, rate: float, kind: str, *, classes: Sequence[str], seed: int) -> np.ndarray:
    """Labels (N,) of which exactly the share `rate`, rounded to whole images, is wrong; which ones, and how, depends on the seed."""
    rng = np.random.default_rng(seed)
    labels = truth.copy()
    rows = rng.permutation(len(truth))[: round(rate * len(truth))]
    labels[rows] = draw_classes(wrong_labels(kind, classes)[truth[rows]], rng)
    return labels
