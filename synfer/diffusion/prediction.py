"""What the U-Net predicts, and the clean latents that follow from it."""

from __future__ import annotations

from torch import Tensor

from synfer.diffusion.au_adapter import au_condition
from synfer.diffusion.backbone import Backbone


def predict(backbone: Backbone, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor, aus: Tensor) -> Tensor:
    """Noise (or velocity) prediction (N, C, h, w) under text (N, L, D) and AUs (N, AU_COUNT)."""
    return backbone.unet(latents, timestep, prompt_embeds, added_cond_kwargs=au_condition(aus)).sample


def predict_clean(backbone: Backbone, latents: Tensor, timestep: Tensor, prediction: Tensor) -> Tensor:
    """Clean latents x0 (N, C, h, w) from noisy ones and the model's prediction, for noise and velocity prediction alike.

    `timestep` is one for all samples or one each (N,).
    """
    alpha = backbone.scheduler.alphas_cumprod.to(latents)[timestep].reshape(-1, 1, 1, 1)
    if backbone.scheduler.config.prediction_type == "v_prediction":
        return alpha.sqrt() * latents - (1 - alpha).sqrt() * prediction
    return (latents - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
