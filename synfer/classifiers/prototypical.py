"""Prototypical training: an encoder learned in the episodes that it will be asked (arXiv:1703.05175)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synfer.classifiers.augment import jitter
from synfer.classifiers.feature_rows import FeatureError
from synfer.classifiers.few_shot import draw_episode
from synfer.classifiers.loop import Schedule, run_loop
from synfer.classifiers.models import Network, create
from synfer.pixels import to_tensor


def fit_prototypical(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    backbone: str,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    schedule: Schedule,
    encoder: Network | None = None,
    augmentation: float = 1.0,
    seed: int = 0,
    device: str | torch.device = "cpu",
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Network:
    """An encoder trained on images uint8 (N, S, S, 3) with labels (N), `episodes` an epoch; a `Network` without outputs, in eval mode.

    A batch is an episode, so the schedule's batch size does not count. `encoder` is one to go on from, such as a self-supervised one, and
    is changed in place. `augmentation` is the strength of the jitter. Raises FeatureError if an episode cannot be drawn.
    """
    if len(images) != len(labels):
        raise FeatureError(f"{len(images)} images, {len(labels)} labels; the two must agree")
    sizes = {"ways": ways, "shots": shots, "queries": queries}
    encoder = encoder or create(backbone, 0, image_size=images.shape[1], seed=seed)

    def draw(generator: torch.Generator) -> np.ndarray:
        seeds = torch.randint(2**62, (episodes,), generator=generator).tolist()
        drawn = (draw_episode(labels, **sizes, seed=one) for one in seeds)
        return np.concatenate([np.concatenate([one.support, one.query], axis=1).ravel() for one in drawn])

    def loss(rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        pixels = jitter(to_tensor(images[rows]).to(device), generator, strength=augmentation)
        return episode_loss(encoder(pixels).float().view(ways, shots + queries, -1), shots)

    pace = replace(schedule, batch_size=ways * (shots + queries))
    parts: dict[str, Any] = {"seed": seed, "device": device, "checkpoint": checkpoint, "on_epoch": on_epoch, "draw": draw}
    run_loop(encoder, episodes * pace.batch_size, pace, loss=loss, title=f"episodes {encoder.architecture}", **parts)
    return encoder


def episode_loss(features: Tensor, shots: int) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the queries over minus the squared distance to each prototype (equation 2), and their accuracy.

    Features (ways, shots + queries, D), support first. Distances count per feature: over hundreds of them the softmax would be sure of its
    first guess and learn nothing.
    """
    prototypes, queries = features[:, :shots].mean(1), features[:, shots:]
    logits = -(queries[:, :, None] - prototypes).square().mean(-1).flatten(0, 1)  # (ways * queries, ways)
    truth = torch.arange(len(features), device=features.device).repeat_interleave(queries.shape[1])
    return F.cross_entropy(logits, truth), {"accuracy": float((logits.argmax(1) == truth).float().mean())}
