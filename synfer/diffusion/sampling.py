"""Drawing faces: DPM-Solver++ or DDIM with classifier-free guidance that is separate for text and AUs, one generator a sample.

    eps = eps(-, -) + s_text (eps(c, -) - eps(-, -)) + s_au (eps(c, a) - eps(c, -))

after Brooks et al. 2023 (arXiv 2211.09800) for two conditions; with s_text = s_au the middle term cancels, with s_text = 1 the first
prediction does, and two forwards suffice. Each scale may be limited to an interval of the denoising (Kynkäänniemi et al. 2024, arXiv
2404.07724) and is 1 outside: at the noisiest steps the caption's narrows what is drawn, while fine AUs are settled in the last ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from synfer.diffusion.au_adapter import unspecified
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.guidance import SemanticGuidance, within
from synfer.diffusion.prediction import predict
from synfer.errors import SynferError
from synfer.pixels import bounded_slices, to_bytes
from synfer.seeding import randn

Sampler = Literal["dpm", "ddim"]
"""dpm: second-order DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095); ddim: Song et al. 2021 (arXiv 2010.02502). Both deterministic."""

_SCHEDULERS = {"dpm": DPMSolverMultistepScheduler, "ddim": DDIMScheduler}
_NO_TARGETS = torch.empty(0, dtype=torch.long)


@dataclass(frozen=True)
class Conditions:
    """What a batch asks for: captions (N), AU intensities (N, AU_COUNT) with NaN where unspecified, and each sample's seed (N)."""

    captions: Sequence[str]
    aus: np.ndarray
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        if not len(self.captions) == len(self.aus) == len(self.seeds):
            raise SynferError(
                f"{len(self.captions)} captions, {len(self.aus)} AU vectors and {len(self.seeds)} seeds; the three must agree"
            )


@torch.no_grad()
def sample_latents(
    backbone: Backbone,
    conditions: Conditions,
    *,
    sampler: Sampler = "dpm",
    num_inference_steps: int = 10,
    guidance_scale: float = 3.0,
    au_guidance_scale: float = 3.0,
    cfg_interval: tuple[float, float] = (0.0, 1.0),
    au_cfg_interval: tuple[float, float] | None = None,
    semantic: SemanticGuidance | None = None,
    targets: Tensor = _NO_TARGETS,
    initial_noise: Tensor | None = None,
) -> Tensor:
    """Latents (N, C, h, w). `semantic` steers towards the classes `targets` (N,); sample i depends on its own seed alone.

    `cfg_interval` is the share of the steps (0 = first, noisiest) in which classifier-free guidance acts, `au_cfg_interval` that of the
    AUs' scale where it differs; outside of it a scale is 1, the plain condition. With `au_guidance_scale` 0 the AUs have no say at all.
    Denoising starts from each seed's own noise, or from `initial_noise` (N, C, h, w), see `synfer.diffusion.layout`.
    """
    count, device = len(conditions.seeds), backbone.device
    scheduler = _scheduler(backbone, sampler, num_inference_steps)
    noise = randn(backbone.latent_shape(), conditions.seeds) if initial_noise is None else initial_noise
    if noise.shape != (expected := (count, *backbone.latent_shape())):
        raise SynferError(f"initial noise is {tuple(noise.shape)}; {count} samples of {backbone.name} start from {expected}")
    latents = noise.to(device, backbone.unet.dtype) * scheduler.init_noise_sigma
    aus = torch.as_tensor(conditions.aus, dtype=torch.float32, device=device)
    if au_guidance_scale == 0:  # by the scale alone they would act outside of their interval
        aus, au_guidance_scale, au_cfg_interval = unspecified(count, device=device), guidance_scale, cfg_interval
    prompt_embeds, empty = backbone.embed(conditions.captions), backbone.embed([""]).expand(count, -1, -1)
    steering = semantic.start(backbone, aus, targets, steps=num_inference_steps) if semantic is not None else None
    for index, timestep in enumerate(scheduler.timesteps):
        if steering is None:
            conditional = predict(backbone, latents, timestep, prompt_embeds, aus)
        else:
            conditional, prompt_embeds = steering.predict(index, latents, timestep, prompt_embeds)
        text, units = (within(interval, index, num_inference_steps) for interval in (cfg_interval, au_cfg_interval or cfg_interval))
        guided = _guided(
            backbone, latents, timestep, conditional=conditional, prompt_embeds=prompt_embeds, empty=empty,
            guidance_scale=guidance_scale if text else 1.0, au_guidance_scale=au_guidance_scale if units else 1.0,
        )  # fmt: skip
        latents = scheduler.step(guided, timestep, latents).prev_sample
    return latents


def first_timestep(backbone: Backbone, *, sampler: Sampler, num_inference_steps: int) -> int:
    """Timestep from which sampling starts, the noisiest: 999, or somewhat less where a schedule leaves its end out."""
    return int(_scheduler(backbone, sampler, num_inference_steps).timesteps[0])


def _scheduler(backbone: Backbone, sampler: Sampler, num_inference_steps: int) -> DDIMScheduler | DPMSolverMultistepScheduler:
    scheduler = _SCHEDULERS[sampler].from_config(backbone.scheduler.config)
    scheduler.set_timesteps(num_inference_steps, device=backbone.device)
    return scheduler


def _guided(
    backbone: Backbone,
    latents: Tensor,
    timestep: Tensor,
    *,
    conditional: Tensor,
    prompt_embeds: Tensor,
    empty: Tensor,
    guidance_scale: float,
    au_guidance_scale: float,
) -> Tensor:
    if guidance_scale == au_guidance_scale == 1.0:
        return conditional
    nothing = unspecified(len(latents), device=latents.device)
    if guidance_scale == au_guidance_scale:
        unconditional = predict(backbone, latents, timestep, empty, nothing)
        return unconditional + guidance_scale * (conditional - unconditional)
    text_only = predict(backbone, latents, timestep, prompt_embeds, nothing)
    if guidance_scale == 1.0:
        return text_only + au_guidance_scale * (conditional - text_only)
    unconditional = predict(backbone, latents, timestep, empty, nothing)
    return unconditional + guidance_scale * (text_only - unconditional) + au_guidance_scale * (conditional - text_only)


@torch.no_grad()
def decode(backbone: Backbone, latents: Tensor) -> np.ndarray:
    """Images uint8 (N, H, W, 3) of latents."""
    return np.concatenate([to_bytes(backbone.decode(latents[rows])) for rows in bounded_slices(len(latents), side=backbone.image_size)])
