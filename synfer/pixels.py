"""Pixels between the two forms they have here: bytes on disk and in NumPy, numbers in [-1, 1] in networks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from synfer.errors import SynferError

AT_ONCE = 2**20
"""Pixels that an autoencoder takes at once: 256 images of 64 x 64, four of 512 x 512."""


class PixelsError(SynferError):
    """An array that holds no pixels; the message gives its type and shape."""


def to_tensor(images: np.ndarray) -> Tensor:
    """Pixels uint8 (N, H, W, 3) as float (N, 3, H, W) in [-1, 1]; channels-last in memory, as they came.

    Raises PixelsError on any other array: numbers from 0 to 1 would silently become an almost black image.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise PixelsError(f"pixels must be uint8 (N, H, W, 3), found {images.dtype} {images.shape}")
    return torch.from_numpy(np.array(images, order="C")).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_bytes(images: Tensor) -> np.ndarray:
    """Pixels (N, 3, H, W) as uint8 (N, H, W, 3); what lies outside [-1, 1] is cut."""
    pixels = (images.detach().float().clamp(-1.0, 1.0) + 1.0) * 127.5
    return pixels.round().byte().permute(0, 2, 3, 1).cpu().numpy()


def bounded_slices(count: int, *, side: int) -> Iterator[slice]:
    """`count` square images of `side` pixels in slices of at most AT_ONCE pixels, at least an image each; memory stays bounded."""
    size = max(AT_ONCE // side**2, 1)
    return (slice(start, start + size) for start in range(0, count, size))
