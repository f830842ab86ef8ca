"""The canvas: pixel coordinates on the face, and the smooth masks that shapes are painted with.

Face coordinates: x to the image's right, y down, the head about 2 high, the origin between the eyes' line and the nose; the eyes lie near
y = -0.08, the mouth near 0.53, the chin near 0.87. Maps are (B, H, W), colours (B, 3, H, W), numbers of a face (B, 1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


class Stack:
    """The numbers and colours of a batch of dataclasses as tensors: ``Stack(identities).age`` is (B, 1, 1), a colour (B, 3, 1, 1)."""

    def __init__(self, items: Sequence[object]) -> None:
        self._items = items

    def column(self, name: str) -> list:
        """A field that is no number."""
        return [getattr(item, name) for item in self._items]

    def __getattr__(self, name: str) -> torch.Tensor:
        values = torch.tensor([getattr(item, name) for item in self._items], dtype=torch.float32)
        values = values[:, None, None] if values.ndim == 1 else values[:, :, None, None]
        setattr(self, name, values)  # read once a batch
        return values


@dataclass(frozen=True)
class Canvas:
    """Face coordinates of every pixel, (B, H, W), and the width over which a mask fades."""

    x: torch.Tensor
    y: torch.Tensor
    across: torch.Tensor
    leftness: torch.Tensor
    softness: float

    def rows(self, band: slice) -> Canvas:
        """The same canvas in a band of rows."""
        return Canvas(self.x[:, band], self.y[:, band], self.across[:, band], self.leftness[:, band], self.softness)

    def cover(self, distance: torch.Tensor, soft: float = 1.0) -> torch.Tensor:
        """Coverage 0..1 of a shape from its signed distance (negative inside)."""
        return (0.5 - distance / (self.softness * soft)).clamp_(0.0, 1.0)


def bell(distance: torch.Tensor, width: float | torch.Tensor) -> torch.Tensor:
    """Gaussian bump: 1 at distance 0, 1/e at `width`."""
    return torch.exp(-((distance / width) ** 2))


def spot(canvas: Canvas, x: torch.Tensor | float, y: torch.Tensor | float, wide: float, high: float) -> torch.Tensor:
    """Gaussian spot at (+-x, y) on both sides of the face."""
    return torch.exp(-(((canvas.across - x) / wide) ** 2) - ((canvas.y - y) / high) ** 2)


def smoothstep(value: torch.Tensor, start: float, end: float) -> torch.Tensor:
    """0 before `start`, 1 after `end`, smooth between; `start` may exceed `end`."""
    t = ((value - start) / (end - start)).clamp_(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def paint(image: torch.Tensor, mask: torch.Tensor, colour: torch.Tensor) -> None:
    """Blend a colour into `image` (B, 3, H, W), in place, by a mask (B, H, W)."""
    image.lerp_(colour.expand_as(image), mask.unsqueeze(1).expand_as(image))
