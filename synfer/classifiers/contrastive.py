"""SimCLR, BYOL and MoCo v3 on any encoder, with lightly's losses and heads.

Each is a module of encoder, heads and, for the last two, momentum networks, which are part of its state and so of every checkpoint.
`forward` gives the loss of a batch of images, `update` moves the momentum networks after an optimiser step.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401 - mends torchvision before lightly imports it

import copy

import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead, MoCoProjectionHead, SimCLRProjectionHead
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.nn import functional as F

from synfer.classifiers.models import Network
from synfer.classifiers.views import Views, view

HIDDEN, OUTPUT = 512, 128
"""Widths of the heads; the papers' 2048 or 4096 and 256 belong to encoders of 2048 features."""

LOOK_BACK = 0.05
"""Share of the training that a momentum network may look back at most."""


class SimCLR(nn.Module):
    """Two views of an image are each other's positive, all other views of the batch are negatives (arXiv:2002.05709)."""

    def __init__(self, encoder: Network, *, views: Views, temperature: float = 0.2) -> None:
        super().__init__()
        self.encoder, self.views = encoder, views
        self.projection = SimCLRProjectionHead(encoder.width, HIDDEN, OUTPUT)
        self.criterion = NTXentLoss(temperature)

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """NT-Xent (equation 1) of images (N, 3, H, W) in [-1, 1]."""
        projections = self.projection(self.encoder(_two_views(images, generator, self.views)))
        with _full_precision(images):
            return self.criterion(*projections.float().chunk(2))

    def update(self, step: int, steps: int) -> None:
        """SimCLR has no momentum network."""


class _Momentum(nn.Module):
    """An encoder with projection and prediction, and a slower copy of encoder and projection that is the target."""

    momentum: float

    def __init__(self, encoder: Network, projection: nn.Module, prediction: nn.Module, views: Views) -> None:
        super().__init__()
        self.encoder, self.projection, self.prediction, self.views = encoder, projection, prediction, views
        self.target = copy.deepcopy(nn.Sequential(encoder, projection)).requires_grad_(False)

    def predictions_and_targets(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Predictions (2N, C) of the two views, the first view's first, and targets (2N, C), the second view's first."""
        both = _two_views(images, generator, self.views)
        predictions = self.prediction(self.projection(self.encoder(both)))
        with torch.no_grad():
            first, second = self.target(both).chunk(2)
        return predictions.float(), torch.cat([second, first]).float()

    def update(self, step: int, steps: int) -> None:
        """Move the target towards the encoder; step 1..steps is the optimiser step just done."""
        momentum = cosine_schedule(step - 1, steps, start_momentum(self.momentum, steps), 1.0)
        update_momentum(self.encoder, self.target[0], momentum)
        update_momentum(self.projection, self.target[1], momentum)


class BYOL(_Momentum):
    """A view's prediction meets the target of the other view; no negatives (arXiv:2006.07733)."""

    momentum = 0.996

    def __init__(self, encoder: Network, *, views: Views) -> None:
        super().__init__(encoder, BYOLProjectionHead(encoder.width, HIDDEN, OUTPUT), BYOLPredictionHead(OUTPUT, HIDDEN, OUTPUT), views)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Squared distance of unit vectors, 2 - 2 cos, over both views (equation 2) of images (N, 3, H, W) in [-1, 1]."""
        predictions, targets = self.predictions_and_targets(images, generator)
        with _full_precision(images):
            return 2 + 2 * self.criterion(predictions, targets)


class MoCoV3(_Momentum):
    """A view's prediction finds the target of the other view among those of the batch (arXiv:2104.02057)."""

    momentum = 0.99

    def __init__(self, encoder: Network, *, views: Views, temperature: float = 0.2) -> None:
        projection = MoCoProjectionHead(encoder.width, HIDDEN, OUTPUT, num_layers=3, batch_norm=True)
        super().__init__(encoder, projection, MoCoProjectionHead(OUTPUT, HIDDEN, OUTPUT, num_layers=2, batch_norm=True), views)
        self.temperature = temperature

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Symmetric InfoNCE (algorithm 1) of images (N, 3, H, W) in [-1, 1]."""
        predictions, targets = self.predictions_and_targets(images, generator)
        with _full_precision(images):
            pairs = zip(predictions.chunk(2), targets.chunk(2), strict=True)
            return sum((info_nce(queries, keys, self.temperature) for queries, keys in pairs), start=predictions.new_zeros(()))


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """MoCo v3's contrastive loss of queries (N, C), whose positives are the keys (N, C) of the same row and negatives the other rows.

    lightly's NT-Xent also counts the other queries as negatives, which MoCo v3 does not. The factor 2 t makes the gradient's scale
    independent of the temperature t (arXiv:2104.02057, algorithm 1).
    """
    logits = F.normalize(queries, dim=1) @ F.normalize(keys, dim=1).T / temperature
    return 2 * temperature * F.cross_entropy(logits, torch.arange(len(queries), device=queries.device))


def start_momentum(published: float, steps: int) -> float:
    """The momentum that a schedule starts with: the published one in a long training, less in a short one.

    At 0.996 a target looks back 250 steps. Of the 300,000 of the papers that is nothing; of 300 it is nearly all, and the encoder would
    chase the random network that it started from. Below 0.9 BYOL falls off (arXiv:2006.07733, table 5a).
    """
    return min(published, max(0.9, 1 - 1 / max(1.0, LOOK_BACK * steps)))


def _two_views(images: Tensor, generator: torch.Generator, views: Views) -> Tensor:
    """(2N, 3, H, W): a view of every image, then another one."""
    return torch.cat([view(images, generator, views), view(images, generator, views)])


def _full_precision(images: Tensor) -> torch.autocast:
    """Context in which nothing is rounded to 16 bits: similarities over a temperature need more."""
    return torch.autocast(images.device.type, enabled=False)
