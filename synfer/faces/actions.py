"""Action units as the renderer reads them: 0..1 tensors of each side of a batch of faces."""

from __future__ import annotations

import numpy as np
import torch

from synfer.faces.canvas import Canvas
from synfer.vocabulary import MAX_INTENSITY, left_right

_BILATERAL = ("1", "2", "4", "5", "6", "7", "9", "10", "12", "14", "15", "16", "17", "18", "20", "22", "23", "24", "25", "26", "27", "43")
_SIDED = ("1", "2", "4", "6", "10", "12", "14")
SUPPORTED_AUS: tuple[str, ...] = (*_BILATERAL, *(f"{side}{unit}" for unit in _SIDED for side in "LR"))
"""The AUs that the renderer draws; any other is ignored."""


class Actions:
    """Intensities of a batch, scaled to 0..1, by unit; the person's left is the image's right."""

    def __init__(self, aus: np.ndarray) -> None:
        """`aus` is (B, AU_COUNT), 0..5."""
        self._sides: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for unit in _BILATERAL:
            left, right = (torch.from_numpy(side.astype(np.float32) / MAX_INTENSITY)[:, None, None] for side in left_right(aus, unit))
            self._sides[unit] = left, right

    def both(self, unit: str) -> torch.Tensor:
        """Mean of the two sides, (B, 1, 1)."""
        left, right = self._sides[unit]
        return (left + right) / 2

    def on(self, unit: str, canvas: Canvas) -> torch.Tensor:
        """The unit at every pixel: (B, H, W), blended over the midline, or (B, 1, 1) where the sides cannot differ."""
        left, right = self._sides[unit]
        return torch.lerp(right, left, canvas.leftness) if unit in _SIDED else left
