"""Augmentation of face batches: a small turn, zoom and shift, light and contrast, mirroring; where asked for, RandAugment and MixUp."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from synfer.errors import SynferError

ROTATION = 0.14  # radians, about 8 degrees: more than that and a tilted brow means something else
ZOOM = 0.08
SHIFT = 0.06  # of the image's side
BRIGHTNESS = 0.2
CONTRAST = 0.2
OPERATIONS = 2
"""Random operations that RandAugment gives an image."""

MAGNITUDES = 31


class AugmentationError(SynferError):
    """A strength that does not exist; the message gives the range."""


def jitter(images: torch.Tensor, generator: torch.Generator, *, strength: float = 1.0) -> torch.Tensor:
    """Images (N, 3, H, W) in [-1, 1], each turned, zoomed, shifted, lit and contrasted at random; the result keeps the range.

    `strength` scales all ranges; at 0 the images come back as they are. Resampling between pixels softens what is a pixel wide.
    """
    if strength == 0:
        return images
    count = len(images)

    def draw(*shape: int) -> torch.Tensor:
        return (torch.rand(count, *shape, generator=generator) * 2 - 1) * strength

    angle, zoom, shift = draw() * ROTATION, 1 + draw() * ZOOM, draw(2, 1) * 2 * SHIFT  # affine_grid's side is 2 long
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)  # (N, 2, 2)
    grid = F.affine_grid(torch.cat([turn, shift], 2), list(images.shape), align_corners=False).to(images.device)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    light, contrast = (draw(1, 1, 1).to(images.device) for _ in range(2))
    return (moved * (1 + contrast * CONTRAST) + light * BRIGHTNESS).clamp(-1, 1)


def mirror(
    images: torch.Tensor, targets: torch.Tensor, mirrored_targets: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half of the images (N, 3, H, W) mirrored, with the targets (N, K) of the mirrored face in their rows."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    chosen = chosen.to(images.device)
    return torch.where(chosen[:, None, None, None], images.flip(3), images), torch.where(chosen[:, None], mirrored_targets, targets)


def random_operations(images: np.ndarray, magnitude: int) -> np.ndarray:
    """Images uint8 (N, H, W, 3), each after `OPERATIONS` random operations of RandAugment (Cubuk et al. 2020, arXiv:1909.13719).

    `magnitude` is 0 (none) to 30. Draws from torch's own generator, which the training loop seeds and keeps.
    """
    if not 0 <= magnitude < MAGNITUDES:
        raise AugmentationError(f"RandAugment's magnitude is {magnitude}, it must lie in 0..{MAGNITUDES - 1}")
    if magnitude == 0:
        return images
    operations = v2.RandAugment(OPERATIONS, magnitude, MAGNITUDES, interpolation=v2.InterpolationMode.BILINEAR)
    batch = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return torch.stack([operations(image) for image in batch]).permute(0, 2, 3, 1).numpy()


def mix_up(
    images: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, *, alpha: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (N, 3, H, W), class probabilities (N, K) and weights (N,), each mixed with its neighbour in the batch (arXiv:1710.09412).

    The share is drawn once a batch from Beta(alpha, alpha), by torch's own generator. Targets are mixed by share *and* weight, so that the
    weighted cross-entropy is the mixture of the two weighted ones, and an image of no weight still teaches nothing.
    """
    images, weighted = v2.MixUp(alpha=alpha)(images, targets * weights[:, None])
    mixed = weighted.sum(1)
    return images, weighted / mixed.clamp(min=1e-12)[:, None], mixed
