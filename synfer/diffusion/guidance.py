"""Semantic guidance: an expression classifier steers denoising by moving the text embedding (SynFER, arXiv 2410.09865, section 3.3).

At a step inside the window: predict the clean latents, classify them, and move the embedding *down* the gradient of L = -log p(target),

    c <- c - lambda |c| g / |g|,    g = dL/dc        (the paper prints +, which would climb the loss)

`lambda` is a share of the embedding's norm, so it means the same for every text encoder. The classifier is a callable on (clean latents,
timestep); `through_decoder` makes one from a pixel classifier, which is the paper's form. Ours is cheaper: only samples whose classifier is
not yet sure are differentiated, and the conditional prediction of the step is reused; the new embedding acts from the next step on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from synfer.diffusion.au_adapter import au_condition
from synfer.diffusion.backbone import Backbone

Classify = Callable[[Tensor, Tensor], Tensor]
"""(clean latents (N, C, h, w), timestep) -> logits (N, K), differentiable."""


@dataclass(frozen=True)
class SemanticGuidance:
    """How denoising is steered.

    `strength` is lambda; `window` the share of the steps (0 = first, noisiest) in which it acts, every `every`-th of them; samples whose
    target probability is above `confidence` are left alone; `second_forward` repeats the prediction with the new embedding, as published.
    """

    classify: Classify
    strength: float = 0.05
    window: tuple[float, float] = (0.2, 0.8)
    every: int = 2
    confidence: float = 0.8
    second_forward: bool = False

    def acts_at(self, index: int, steps: int) -> bool:
        """Whether step `index` of `steps` is a guided one."""
        first, last = round(self.window[0] * steps), round(self.window[1] * steps)
        return self.strength > 0 and first <= index < last and (index - first) % self.every == 0

    def steer(
        self,
        backbone: Backbone,
        latents: Tensor,
        timestep: Tensor,
        prompt_embeds: Tensor,
        aus: Tensor,
        conditional: Tensor,
        targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The moved embedding (N, L, D) and the conditional prediction to go on with."""
        unsure = self._unsure(backbone, latents, timestep, conditional, targets)
        if not len(unsure):
            return prompt_embeds, conditional

        def predicted(embeds: Tensor) -> Tensor:
            return backbone.unet(latents[unsure], timestep, embeds, added_cond_kwargs=au_condition(aus[unsure])).sample

        moved = prompt_embeds.clone()
        moved[unsure] = descend(
            prompt_embeds[unsure],
            lambda embeds: self.classify(predict_clean(backbone, latents[unsure], timestep, predicted(embeds)), timestep),
            targets[unsure],
            strength=self.strength,
        )
        if self.second_forward:
            conditional = conditional.clone()
            conditional[unsure] = predicted(moved[unsure])
        return moved, conditional

    def _unsure(self, backbone: Backbone, latents: Tensor, timestep: Tensor, conditional: Tensor, targets: Tensor) -> Tensor:
        probabilities = self.classify(predict_clean(backbone, latents, timestep, conditional), timestep).softmax(dim=1)
        sure = probabilities.gather(1, targets[:, None])[:, 0] > self.confidence
        return torch.nonzero(~sure)[:, 0]


def descend(embeds: Tensor, logits: Callable[[Tensor], Tensor], targets: Tensor, *, strength: float) -> Tensor:
    """Embeddings (N, L, D) moved down the gradient of -log p(target), each by `strength` of its own norm; samples do not mix."""
    with torch.enable_grad():
        free = embeds.detach().requires_grad_(True)
        loss = F.cross_entropy(logits(free), targets, reduction="sum")  # the sum keeps each sample's gradient its own
        (gradient,) = torch.autograd.grad(loss, free)
    length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
    reach = strength * embeds.flatten(1).norm(dim=1)[:, None, None]
    return embeds - reach * gradient / length


def predict_clean(backbone: Backbone, latents: Tensor, timestep: Tensor, prediction: Tensor) -> Tensor:
    """Clean latents x0 (N, C, h, w) from noisy ones and the model's prediction, for noise and velocity prediction alike."""
    alpha = backbone.scheduler.alphas_cumprod.to(latents)[timestep]
    if backbone.scheduler.config.prediction_type == "v_prediction":
        return alpha.sqrt() * latents - (1 - alpha).sqrt() * prediction
    return (latents - (1 - alpha).sqrt() * prediction) / alpha.sqrt()


def through_decoder(backbone: Backbone, classify_pixels: Callable[[Tensor], Tensor]) -> Classify:
    """The paper's classifier: decode the clean latents, then classify the image (N, 3, H, W)."""
    return lambda clean, timestep: classify_pixels(backbone.decode(clean).clamp(-1.0, 1.0))
