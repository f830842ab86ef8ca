"""A small network that reads expression and AUs from clean latents: its features are the denoiser's perceptual loss.

The squared error of a latent is a squared error of hair and backdrop above all. What a face *shows* is a small part of it and is learned
last. Comparing the features of predicted and true latents (Berrada et al. 2024, arXiv 2411.04873) puts weight where the meaning is.
The network belongs to the generator: it sees the generator's own renders, and nobody judges with it.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.device import torch_device
from synfer.diffusion.autoencoder import batch_rows
from synfer.diffusion.training import Schedule, Training
from synfer.seeding import derive_seed
from synfer.vocabulary import AU_COUNT

_BATCH = 64
_NOISE = 0.1
"""Deviation of the noise on the latents while it trains: predicted latents are never quite clean. At 0.3 it hid what is a pixel wide,
and the weak AUs (7, 10, 16) were read at r 0.2-0.4."""


class LatentPerception(nn.Module):
    """Latents (N, C, h, w) -> logits of the expressions (N, K) and AU intensities in units of each AU's spread (N, AU_COUNT)."""

    def __init__(self, latent_channels: int, classes: int, *, widths: tuple[int, ...] = (64, 96, 128)) -> None:
        super().__init__()
        self.classes = classes
        inputs = (latent_channels, *widths[:-1])
        self.stages = nn.ModuleList(_stage(a, b, stride=1 if i == 0 else 2) for i, (a, b) in enumerate(zip(inputs, widths, strict=True)))
        self.head = nn.Linear(16 * widths[-1], classes + AU_COUNT)

    def features(self, latents: Tensor) -> list[Tensor]:
        """Maps of every stage and, last, the outputs (N, K + AU_COUNT), in which a weak AU weighs as much as a strong one."""
        found = []
        for stage in self.stages:
            latents = stage(latents)
            found.append(latents)
        cells = F.adaptive_avg_pool2d(latents, 4)  # where an AU is matters, so the pool keeps a 4x4 grid
        return [*found, self.head(cells.flatten(1))]

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.features(latents)[-1]
        return outputs[:, : self.classes], outputs[:, self.classes :]


def _stage(inputs: int, outputs: int, *, stride: int) -> nn.Module:
    layers: list[nn.Module] = []
    for index in range(2):
        layers += [
            nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, stride=stride if index == 0 else 1, padding=1),
            nn.GroupNorm(8, outputs),
            nn.SiLU(),
        ]
    return nn.Sequential(*layers)


def train_perception(latents: Tensor, classes: Tensor, aus: Tensor, *, schedule: Schedule, checkpoint: Path, seed: int) -> LatentPerception:
    """Fit to latents (N, C, h, w), class indices (N,) with -1 where there is no expression, and AU intensities (N, AU_COUNT).

    Errors of an AU are squared and in units of its spread: the absolute error of a rare or weak AU is least at "always absent".
    The network comes back on the device that trained it.
    """
    torch.manual_seed(seed)
    device = torch_device("auto")
    network = LatentPerception(latents.shape[1], int(classes.max()) + 1).to(device)
    training = Training([network], schedule, checkpoint=checkpoint)
    spread = aus.std(dim=0)
    spread[spread == 0] = 1.0  # AUs that never move

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rows = batch_rows(len(latents), batch_size=_BATCH, step=step, seed=seed)
        generator = torch.Generator().manual_seed(derive_seed("perception", seed, step))
        clean = latents[rows].float()
        amount = _NOISE * torch.rand(len(rows), 1, 1, 1, generator=generator)
        logits, intensities = network((clean + amount * torch.randn(clean.shape, generator=generator)).to(device))
        expression = F.cross_entropy(logits, classes[rows].to(device), ignore_index=-1, label_smoothing=0.05)
        units = F.mse_loss(intensities, (aus[rows] / spread).to(device))
        return expression + units, {"expression": expression.item(), "aus": units.item()}

    training.run(loss, title="latent perception")
    training.ema.copy_to(training.parameters)
    return network.eval().requires_grad_(False)
