"""What probes, neighbours and episodes ask of feature rows before they count on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synfer.errors import SynferError


class FeatureError(SynferError):
    """Features and labels that do not fit together; the message says which and how."""


def class_count(classes: Sequence[str] | int) -> int:
    """K of the classes' names, or of their number."""
    return classes if isinstance(classes, int) else len(classes)


def check_rows(name: str, features: np.ndarray, others: int) -> None:
    """Raise FeatureError unless `features` is finite (N, D) with N = `others` > 0."""
    if features.ndim != 2 or len(features) == 0:
        raise FeatureError(f"{name} features must be (N, D) with at least one row, found {features.shape}")
    if len(features) != others:
        raise FeatureError(f"{len(features)} rows of {name} features, {others} of labels; the two must agree")
    if not np.isfinite(features).all():
        raise FeatureError(f"{name} features hold {int((~np.isfinite(features)).any(1).sum())} rows that are not finite")


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Raise FeatureError unless labels are class numbers 0..K-1."""
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes:
        raise FeatureError(f"labels must be class numbers 0..{classes - 1}, found {labels.dtype} {labels.min()}..{labels.max()}")
