"""Training the denoiser: the loss of one batch, with captions and AUs dropped independently so that each can guide alone.

What mattered at small size: weight on the face's cells, middle timesteps favoured (there the expression is decided; at the ends it is
either lost or settled), and AUs that come independently of expressions, or the adapter only learns prototypes.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers.training_utils import compute_snr
from torch import Tensor
from torch.nn import functional as F

from synfer.diffusion.au_adapter import au_condition
from synfer.diffusion.autoencoder import feature_distance
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.prediction import predict_clean


@dataclass(frozen=True)
class Dropout:
    """Shares of samples trained without a condition; `nothing` drops both at once, which the unconditional prediction needs."""

    caption: float = 0.08
    aus: float = 0.12
    nothing: float = 0.08
    some_aus: float = 0.2  # share of samples in which half of the AUs are left unspecified


@dataclass(frozen=True)
class Perception:
    """A perceptual loss on predicted clean latents (Berrada et al. 2024, arXiv 2411.04873).

    `features` maps latents (N, C, h, w) to feature maps; only samples whose signal-to-noise ratio is above `min_snr` count, because at
    more noise the best prediction is a mean of many faces, which has no features to compare.
    """

    features: Callable[[Tensor], Sequence[Tensor]]
    weight: float = 2.0
    min_snr: float = 0.2


def denoising_loss(
    backbone: Backbone,
    latents: Tensor,
    token_ids: Tensor,
    aus: Tensor,
    *,
    generator: torch.Generator,
    dropout: Dropout,
    weight: Tensor | None = None,
    min_snr_gamma: float | None = None,
    perception: Perception | None = None,
) -> Tensor:
    """Mean squared error of the noise (or velocity) prediction, a scalar.

    Shapes: latents (N, C, h, w), token_ids (N, L), aus (N, AU_COUNT) with NaN where unknown, weight (h, w) with mean 1.
    `min_snr_gamma` is the weighting of Hang et al. 2023 (arXiv 2303.09556).
    """
    count = len(latents)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    timesteps = middle_timesteps(count, backbone.scheduler.config.num_train_timesteps, generator).to(latents.device)
    token_ids, aus = drop_conditions(token_ids, aus, empty=_empty_caption(backbone), dropout=dropout, generator=generator)
    prompt_embeds = backbone.text_encoder(token_ids.to(latents.device)).last_hidden_state
    noisy = backbone.scheduler.add_noise(latents, noise, timesteps)
    found = backbone.unet(noisy, timesteps, prompt_embeds, added_cond_kwargs=au_condition(aus.to(latents))).sample
    error = F.mse_loss(found.float(), _target(backbone, latents, noise, timesteps).float(), reduction="none")
    per_sample = (error if weight is None else error * weight).mean(dim=(1, 2, 3))
    if min_snr_gamma is not None:
        per_sample = per_sample * min_snr_weight(backbone, timesteps, min_snr_gamma)
    if perception is not None:
        per_sample = per_sample + perception.weight * _perceptual(backbone, perception, latents, noisy, timesteps, found)
    return per_sample.mean()


def _perceptual(backbone: Backbone, perception: Perception, latents: Tensor, noisy: Tensor, timesteps: Tensor, found: Tensor) -> Tensor:
    """Feature distances (N,) of predicted and true clean latents, 0 where the noise is too strong."""
    with torch.no_grad():
        wanted = perception.features(latents)
    distance = feature_distance(perception.features(predict_clean(backbone, noisy, timesteps, found)), wanted)
    return distance * (compute_snr(backbone.scheduler, timesteps) > perception.min_snr)


def middle_timesteps(count: int, num_train_timesteps: int, generator: torch.Generator) -> Tensor:
    """Timesteps (count,) with a logit-normal density (Esser et al. 2024, arXiv 2403.03206): the middle is favoured, no end is left out."""
    share = torch.randn(count, generator=generator).sigmoid()
    uniform = torch.rand(count, generator=generator)
    share = torch.where(torch.rand(count, generator=generator) < 0.15, uniform, share)
    return (share * num_train_timesteps).long().clamp(max=num_train_timesteps - 1)


def drop_conditions(
    token_ids: Tensor, aus: Tensor, *, empty: Tensor, dropout: Dropout, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Replace captions (N, L) by the empty one (L,) and AUs (N, A) by NaN, each by its own share."""
    count = len(aus)
    chance = torch.rand(4, count, generator=generator)
    nothing = chance[0] < dropout.nothing
    without_caption = nothing | (chance[1] < dropout.caption)
    without_aus = nothing | (chance[2] < dropout.aus)
    hidden = (chance[3] < dropout.some_aus)[:, None] & (torch.rand(aus.shape, generator=generator) < 0.5)
    token_ids = torch.where(without_caption[:, None], empty.to(token_ids), token_ids)
    return token_ids, aus.masked_fill((without_aus[:, None] | hidden).to(aus.device), float("nan"))


def min_snr_weight(backbone: Backbone, timesteps: Tensor, gamma: float) -> Tensor:
    """Weights (N,): min(SNR, gamma) / SNR for noise prediction, min(SNR, gamma) / (SNR + 1) for velocity."""
    snr = compute_snr(backbone.scheduler, timesteps)
    velocity = backbone.scheduler.config.prediction_type == "v_prediction"
    return snr.clamp(max=gamma) / (snr + 1 if velocity else snr)


def _target(backbone: Backbone, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    if backbone.scheduler.config.prediction_type == "v_prediction":
        return backbone.scheduler.get_velocity(latents, noise, timesteps)
    return noise


def _empty_caption(backbone: Backbone) -> Tensor:
    return backbone.tokenize([""])[0]
