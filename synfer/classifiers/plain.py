"""A plain convolutional network for small images: what learns fine action units fastest at 64 pixels.

timm's residual networks start from a stem that shrinks the image four times and blocks that add nothing yet (the last norm's weight is 0);
on expressions that costs little, on 29 independent intensities they lost two epochs before the first AU was seen.
"""

from __future__ import annotations

import torch
from torch import nn

PLAIN = "plain_cnn"
"""Name of the architecture."""

WIDTHS = (24, 48, 64, 96, 128, 192, 192)
STRIDES = (2, 1, 2, 1, 2, 1, 2)
REDUCTION = 16
"""Pixels a cell of the last feature map."""


class PlainCNN(nn.Module):
    """Seven 3x3 convolutions with batch norm and SiLU, four of them of stride 2: images (N, 3, H, W) -> [maps (N, 192, H / 16, W / 16)]."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *WIDTHS[:-1])
        self.layers = nn.Sequential(*(_layer(*sizes) for sizes in zip(inputs, WIDTHS, STRIDES, strict=True)))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.layers(images)]


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())
