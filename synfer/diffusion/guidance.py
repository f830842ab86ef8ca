"""Semantic guidance: an expression classifier steers denoising by moving the text embedding (SynFER, arXiv 2410.09865, section 3.3).

At a step inside the window: predict the clean latents, classify them, and move the embedding *down* the gradient of L = -log p(target),

    c <- c - lambda |c| g / |g|,    g = dL/dc        (the paper prints +, which would climb the loss)

`lambda` is a share of the embedding's norm, so it means the same for every text encoder. Two forms differ in what they cost:

published  decode the clean latents and classify pixels; at every step of the window, all samples, and a second forward with the new c
latent     a guide that reads latents and knows the timestep; the new c acts from the next step on, so no forward is repeated; only samples
           of which the guide was not sure one step before are differentiated, in the one conditional forward that sampling needs anyway
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from synfer.diffusion.backbone import Backbone
from synfer.diffusion.prediction import predict, predict_clean

Classify = Callable[[Tensor, Tensor], Tensor]
"""(clean latents (N, C, h, w), timestep) -> logits (N, K), differentiable."""


def within(interval: tuple[float, float], index: int, steps: int) -> bool:
    """Whether step `index` of `steps` lies in an interval given in shares of the denoising, 0 the noisiest; its end is outside."""
    return round(interval[0] * steps) <= index < round(interval[1] * steps)


@dataclass(frozen=True)
class SemanticGuidance:
    """How denoising is steered; the default values are those of the latent form.

    `strength` is lambda; `window` the share of the steps (0 = first, noisiest) in which it acts, every `every`-th of them; samples whose
    target probability is above `confidence` are left alone; `second_forward` repeats the prediction with the new embedding.
    """

    classify: Classify
    strength: float = 0.05
    window: tuple[float, float] = (0.2, 0.8)
    every: int = 1
    confidence: float = 0.8
    second_forward: bool = False

    def acts_at(self, index: int, steps: int) -> bool:
        """Whether step `index` of `steps` is a guided one."""
        first = round(self.window[0] * steps)
        return self.strength > 0 and within(self.window, index, steps) and (index - first) % self.every == 0

    def start(self, backbone: Backbone, aus: Tensor, targets: Tensor, *, steps: int) -> Steering:
        """Guidance of one batch towards the classes `targets` (N,) under AUs (N, AU_COUNT), over `steps` denoising steps."""
        return Steering(self, backbone, aus, targets, steps)


def published(
    backbone: Backbone, classify_pixels: Callable[[Tensor], Tensor], *, strength: float, window: tuple[float, float]
) -> SemanticGuidance:
    """Guidance as published, with a classifier of images (N, 3, H, W) in [-1, 1]."""
    classify = through_decoder(backbone, classify_pixels)
    return SemanticGuidance(classify, strength, window, every=1, confidence=1.0, second_forward=True)


def through_decoder(backbone: Backbone, classify_pixels: Callable[[Tensor], Tensor]) -> Classify:
    """A classifier of clean latents that decodes them and classifies the image (N, 3, H, W)."""
    return lambda clean, timestep: classify_pixels(backbone.decode(clean).float().clamp(-1.0, 1.0))


class Steering:
    """One batch under guidance; it remembers of which samples the guide was not sure when it last looked."""

    def __init__(self, guidance: SemanticGuidance, backbone: Backbone, aus: Tensor, targets: Tensor, steps: int) -> None:
        self.guidance, self.backbone, self.aus, self.targets, self.steps = guidance, backbone, aus, targets, steps
        self.unsure = torch.ones(len(targets), dtype=torch.bool, device=targets.device)

    def predict(self, index: int, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """The conditional prediction (N, C, h, w) of step `index` and the embedding (N, L, D) to go on with."""
        if self.guidance.acts_at(index, self.steps) and self.unsure.any():
            conditional, prompt_embeds = self._steer(latents, timestep, prompt_embeds)
        else:
            conditional = predict(self.backbone, latents, timestep, prompt_embeds, self.aus)
        if self.guidance.acts_at(index + 1, self.steps) and self.guidance.confidence < 1.0:
            clean = predict_clean(self.backbone, latents, timestep, conditional)
            self.unsure = ~self._sure(self.guidance.classify(clean, timestep), self.targets)
        return conditional, prompt_embeds

    def _steer(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """One forward of all samples, with a gradient where the guide is unsure; their embeddings are moved unless it is sure by now."""
        found, moved = torch.empty_like(latents), prompt_embeds.clone()
        rest, rows = (torch.nonzero(self.unsure == unsure)[:, 0] for unsure in (False, True))
        if len(rest):
            found[rest] = predict(self.backbone, latents[rest], timestep, prompt_embeds[rest], self.aus[rest])
        noisy, aus, targets = latents[rows], self.aus[rows], self.targets[rows]
        with torch.enable_grad():
            embeds = prompt_embeds[rows].detach().requires_grad_(True)
            prediction = predict(self.backbone, noisy, timestep, embeds, aus)
            logits = self.guidance.classify(predict_clean(self.backbone, noisy, timestep, prediction), timestep)
        lower = descend(embeds, logits, targets, strength=self.guidance.strength)
        moved[rows] = torch.where(self._sure(logits, targets)[:, None, None], embeds.detach(), lower)
        found[rows] = predict(self.backbone, noisy, timestep, moved[rows], aus) if self.guidance.second_forward else prediction.detach()
        return found, moved

    def _sure(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Whether the guide gives each sample's target more than the wanted confidence, bool (N,)."""
        return logits.detach().softmax(dim=1).gather(1, targets[:, None])[:, 0] > self.guidance.confidence


def descend(embeds: Tensor, logits: Tensor, targets: Tensor, *, strength: float) -> Tensor:
    """Embeddings (N, L, D) moved down the gradient of -log p(target), each by `strength` of its own norm; samples do not mix.

    `logits` (N, K) must have been computed from `embeds`, a leaf that requires a gradient.
    """
    with torch.enable_grad():
        loss = F.cross_entropy(logits.float(), targets, reduction="sum")  # the sum keeps each sample's gradient its own
    (gradient,) = torch.autograd.grad(loss, embeds)
    length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
    reach = strength * embeds.detach().flatten(1).norm(dim=1)[:, None, None]
    return embeds.detach() - reach * gradient / length
