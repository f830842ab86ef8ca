"""Light augmentation of face batches: a small turn, zoom and shift, light and contrast, and mirroring."""

from __future__ import annotations

import torch
from torch.nn import functional as F

ROTATION = 0.14  # radians, about 8 degrees: more than that and a tilted brow means something else
ZOOM = 0.08
SHIFT = 0.06  # of the image's side
BRIGHTNESS = 0.2
CONTRAST = 0.2


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
