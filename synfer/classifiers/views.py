"""Random views of faces for self-supervised training: a batch at once, every image with draws of its own.

torchvision's random transforms draw once a call: of a batch they would make one view, and called for every image they take longer than the
network's step (4 ms an image of 64 pixels). So the draws are made here; what changes pixels are torchvision's functions and one resampling.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401 - mends torchvision

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as vision

RATIO = 1.1
"""Limit of the crop's width to its height, either way; 4/3 as on ImageNet would turn a grin into a pout."""

BLUR_SIDE = 64


@dataclass(frozen=True)
class Views:
    """What a view may change; shares are probabilities.

    `crop` is the smallest share of the area that a crop keeps: an expression is brows, eyes and mouth together, and of the 8 % that
    SimCLR allows on ImageNet (arXiv:2002.05709) a forehead may be left. `light` is the range of brightness, contrast and saturation about
    1: faces of one batch must not be told apart by lamp and skin, or their expression need not be learned. `grey` drops the colour for
    the same reason, and four times as often as on ImageNet: hair and skin name the person, an expression has no colour, and on rendered
    faces a linear probe read more with 0.8 than with 0.2. `blur` is mild (sigma up to a pixel of 64), because wrinkles and teeth are a
    pixel or two wide. `flip` mirrors half of the images: an expression stays what it is, a caption that names a side does not.
    """

    crop: float = 0.5
    light: float = 0.4
    grey: float = 0.8
    blur: float = 0.3
    flip: bool = True


MILD = Views(light=0.0, grey=0.0, blur=0.0)
"""Crop and mirror alone, as MAE needs no more (arXiv:2111.06377, section 4.1)."""


def view(images: Tensor, generator: torch.Generator, views: Views) -> Tensor:
    """One random view of each image: (N, 3, H, W) in [-1, 1] -> the same shape and range."""
    images = _crop(images, generator, views)
    if views.light == views.grey == views.blur == 0:
        return images
    return _blur(_light(images * 0.5 + 0.5, generator, views), generator, views).clamp(0, 1) * 2 - 1


def _crop(images: Tensor, generator: torch.Generator, views: Views) -> Tensor:
    """A part of each image at full size, half of them mirrored; only ever enlarged, so nothing aliases."""
    count = len(images)
    area = torch.empty(count).uniform_(views.crop, 1, generator=generator)
    stretch = RATIO ** torch.empty(count).uniform_(-0.5, 0.5, generator=generator)
    width, height = ((area.sqrt() * factor).clamp(max=1) for factor in (stretch, 1 / stretch))
    across, down = torch.empty(2, count).uniform_(-1, 1, generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5 * views.flip
    zero = torch.zeros(count)
    rows = [torch.where(mirrored, -width, width), zero, across * (1 - width), zero, height, down * (1 - height)]
    grid = F.affine_grid(torch.stack(rows, 1).view(count, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images), padding_mode="border", align_corners=False)


def _light(images: Tensor, generator: torch.Generator, views: Views) -> Tensor:
    """Brightness, contrast and saturation of images in [0, 1], then some without colour."""
    brightness, contrast, saturation = (_factor(images, generator, views.light) for _ in range(3))
    images = images * brightness
    grey = vision.rgb_to_grayscale(images, num_output_channels=3)
    images = torch.lerp(grey.mean((1, 2, 3), keepdim=True), images, contrast)
    grey = vision.rgb_to_grayscale(images, num_output_channels=3)
    return torch.where(_chosen(images, generator, views.grey), grey, torch.lerp(grey, images, saturation))


def _blur(images: Tensor, generator: torch.Generator, views: Views) -> Tensor:
    """Some of the images blurred, those of one batch alike."""
    sigma = float(torch.empty(1).uniform_(0.2, 1.0, generator=generator)) * max(images.shape[-1] / BLUR_SIDE, 0.5)
    kernel = 2 * int(2 * sigma + 0.5) + 1
    return torch.where(_chosen(images, generator, views.blur), vision.gaussian_blur(images, [kernel, kernel], [sigma, sigma]), images)


def _factor(images: Tensor, generator: torch.Generator, spread: float) -> Tensor:
    """(N, 1, 1, 1), each in [1 - spread, 1 + spread]."""
    return torch.empty(len(images), 1, 1, 1).uniform_(1 - spread, 1 + spread, generator=generator).to(images)


def _chosen(images: Tensor, generator: torch.Generator, share: float) -> Tensor:
    return (torch.rand(len(images), 1, 1, 1, generator=generator) < share).to(images.device)
