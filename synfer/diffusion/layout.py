"""Layout initialisation: start denoising from the inversion of a real image instead of noise (SynFER, arXiv 2410.09865).

DDIM's deterministic step, run upwards, carries an image to the noise from which sampling would draw it again (Song et al. 2021,
arXiv 2010.02502, section 4.3). Under another caption the noise keeps something of the image's layout: pose, outline, background. It is also
the way on which a person of the corpus could leak into generated faces, so whoever uses it notes the image and audits the result.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from collections.abc import Sequence

import torch
from diffusers import DDIMInverseScheduler
from torch import Tensor

from synfer.diffusion.au_adapter import unspecified
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.prediction import predict
from synfer.pixels import bounded_slices
from synfer.seeding import randn


@torch.no_grad()
def layout_noise(
    backbone: Backbone,
    images: Tensor,
    *,
    seeds: Sequence[int],
    first_timestep: int,
    num_inference_steps: int = 20,
    strength: float = 1.0,
) -> Tensor:
    """Noise (N, C, h, w) at `first_timestep` to start from, of layout images (N, 3, H, W) in [-1, 1]; sample i does not depend on others.

        strength * inverted + sqrt(1 - strength^2) * fresh,    0 <= strength <= 1

    where the fresh noise is each seed's own: at strength 0 sampling starts as it does without a layout.
    """
    encoded = [backbone.encode(images[rows]) for rows in bounded_slices(len(images), side=images.shape[-1])]
    latents = torch.cat(encoded).to(backbone.unet.dtype)
    inverted = invert(backbone, latents, first_timestep=first_timestep, num_inference_steps=num_inference_steps)
    fresh = randn(backbone.latent_shape(), seeds).to(inverted)
    return strength * inverted + (1.0 - strength**2) ** 0.5 * fresh


@torch.no_grad()
def invert(backbone: Backbone, latents: Tensor, *, first_timestep: int, num_inference_steps: int = 20) -> Tensor:
    """Latents (N, C, h, w) of images carried to `first_timestep` by DDIM inversion under the empty caption and unspecified AUs.

    A step is as wide as one of `num_inference_steps` over the whole schedule; the lowest ends at the clean image. The prediction is asked
    for where the step starts, not where it ends as in diffusers' pipelines: velocities of two noise levels do not mix (after 20 steps up
    and 20 down, tiny-sd's latents are 25 per cent off, instead of 51).
    """
    scheduler = DDIMInverseScheduler.from_config(backbone.scheduler.config)
    scheduler.set_timesteps(num_inference_steps)
    width = scheduler.config.num_train_timesteps // num_inference_steps
    prompt_embeds = backbone.embed([""]).expand(len(latents), -1, -1)
    nothing = unspecified(len(latents), device=latents.device)
    for end in reversed(range(first_timestep, -1, -width)):
        start = torch.tensor(max(end - width, 0), device=latents.device)
        latents = scheduler.step(predict(backbone, latents, start, prompt_embeds, nothing), end, latents).prev_sample
    return latents
