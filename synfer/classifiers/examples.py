"""Training examples in memory: pixels, soft targets and weights, one row an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synfer.errors import SynferError
from synfer.vocabulary import unknown

_SUM_TOLERANCE = 1e-3


class ExamplesError(SynferError):
    """Examples whose parts do not fit together; the message says which and how."""


@dataclass(frozen=True)
class Examples:
    """Images uint8 (N, H, W, 3), targets float (N, K) and weights float (N,).

    Targets are class probabilities (rows sum to 1, see `check_class_probabilities`), or AU intensities 0..5 with NaN where unknown. Images
    may be a memory map. Raises ExamplesError where the three do not fit together, or a weight is negative or no number.
    """

    images: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise ExamplesError(f"images must be uint8 (N, H, W, 3), found {self.images.dtype} {self.images.shape}")
        if not len(self.images) == len(self.targets) == len(self.weights):
            found = f"{len(self.images)} images, {len(self.targets)} targets, {len(self.weights)} weights"
            raise ExamplesError(f"{found}; the three must agree")
        if not (self.weights >= 0).all():
            raise ExamplesError(f"weights must be numbers that are not negative, found {self.weights.min():g}")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray) -> Examples:
        """The examples of these rows."""
        return Examples(self.images[rows], self.targets[rows], self.weights[rows])


def examples(images: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> Examples:
    """Examples as float32, of equal weight by default."""
    return Examples(images, targets.astype(np.float32), np.ones(len(images), np.float32) if weights is None else weights.astype(np.float32))


def concatenate(parts: Sequence[Examples]) -> Examples:
    """All examples of the parts, in order."""
    columns = ([getattr(part, name) for part in parts] for name in ("images", "targets", "weights"))
    return Examples(*(np.concatenate(column) for column in columns))


def check_class_probabilities(part: Examples, name: str) -> None:
    """Raise ExamplesError unless the targets of a part (training, validation) are at least 0 and sum to 1 in every row."""
    sums = part.targets.sum(axis=1, dtype=np.float64)
    wrong = ~((part.targets >= 0).all(axis=1) & (np.abs(sums - 1) <= _SUM_TOLERANCE))  # NaN compares as false
    if wrong.any():
        row = int(wrong.argmax())
        found = f"{int(wrong.sum())} of {len(wrong)} rows are not, the first is row {row} with sum {sums[row]:.4g}"
        raise ExamplesError(f"{name} targets must be class probabilities, at least 0 and of sum 1: {found}")


def class_indices(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Position of each label among the classes, int64 (N,); raises ExamplesError naming the first label that is none of them."""
    position = {name: index for index, name in enumerate(classes)}
    strange = next((label for label in labels if label not in position), None)
    if strange is not None:
        raise ExamplesError(unknown("class", strange, classes))
    return np.array([position[label] for label in labels], dtype=np.int64)


def one_hot(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Class probabilities float32 (N, K) that are sure of each label."""
    return np.eye(len(classes), dtype=np.float32)[class_indices(labels, classes)]
