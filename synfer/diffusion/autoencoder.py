"""Training an autoencoder that keeps expressions.

Pixel losses spend their capacity on hair and background and blur a lip corner away. Two terms put the weight where the meaning is: pixels
near brows, eyes and mouth count more, and a *feature loss* compares what expression and AU networks see in image and reconstruction.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from synfer.pixels import bounded_slices, to_bytes, to_tensor
from synfer.seeding import derive_seed

_COLOUR_WEIGHT = 4.0

Features = Callable[[Tensor], Sequence[Tensor]]
"""Images (N, 3, H, W) in [-1, 1] to a list of feature tensors."""


def reconstruction_loss(
    vae: AutoencoderKL,
    images: Tensor,
    *,
    features: Features,
    weight: Tensor,
    seed: int,
    feature_weight: float = 0.5,
    kl_weight: float = 1e-6,
) -> tuple[Tensor, dict[str, float]]:
    """L1 on weighted pixels and on their gradients + feature loss + KL, for images (N, 3, H, W); `weight` is (H, W) with mean 1."""
    posterior = vae.encode(images).latent_dist
    latents = posterior.sample(generator=torch.Generator(images.device).manual_seed(seed))
    found = vae.decode(latents).sample
    pixels = (opponent(found - images).abs() * weight).mean()
    edges = sum((_difference(found, axis) - _difference(images, axis)).abs().mean() for axis in (-2, -1))
    meaning = feature_distance(features(found), features(images)).mean()
    kl = posterior.kl().mean()
    loss = pixels + edges + feature_weight * meaning + kl_weight * kl
    return loss, {"l1": pixels.item(), "features": meaning.item(), "kl": kl.item()}


def opponent(difference: Tensor) -> Tensor:
    """An RGB difference (N, 3, H, W) as lightness plus weighted colour: hue is a small signal and would be learned last."""
    lightness = difference.mean(dim=1, keepdim=True)
    return lightness + _COLOUR_WEIGHT * (difference - lightness)


def feature_distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Smooth L1 distance of each row (N,), mean over layers, each relative to the spread of the layer's wanted features."""
    layers = []
    for a, b in zip(found, wanted, strict=True):
        spread = b.std().clamp(min=1e-4)
        layers.append(F.smooth_l1_loss(a / spread, b.detach() / spread, reduction="none").flatten(1).mean(dim=1))
    return torch.stack(layers).mean(dim=0)


def face_weight(size: int, *, emphasis: float = 2.0) -> Tensor:
    """Weights (size, size) with mean 1, larger near eyes, brows and mouth of a tightly cropped face (centre 0.5, 0.55; spread 0.25)."""
    axis = (torch.arange(size) + 0.5) / size
    bump = torch.exp(-(((axis[:, None] - 0.55) / 0.27) ** 2 + ((axis[None, :] - 0.5) / 0.25) ** 2) / 2)
    weight = 1.0 + emphasis * bump
    return weight / weight.mean()


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, batches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Make every latent channel mean 0 and deviation 1 over the batches, by folding the affine map into the quant convolutions.

    Diffusion models assume unit latents; Stable Diffusion's single scaling factor leaves channel means, which tint dark and bright images.
    Returns the (C,) mean and deviation that were removed.
    """
    latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in batches])
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= deviation[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / deviation
    quant.bias[channels:] -= 2 * deviation.log()  # the log-variance of the scaled latents
    post.bias += (post.weight * mean[None, :, None, None]).sum(dim=(1, 2, 3))
    post.weight *= deviation[None, :, None, None]
    return mean, deviation


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    """Images uint8 (N, H, W, 3) through the autoencoder and back, by the mean of the posterior."""
    parts = (to_tensor(images[rows]).to(vae.device, vae.dtype) for rows in bounded_slices(len(images), side=images.shape[1]))
    return np.concatenate([to_bytes(vae.decode(vae.encode(part).latent_dist.mean).sample) for part in parts])


def batch_rows(count: int, *, batch_size: int, step: int, seed: int) -> Tensor:
    """Rows of optimiser step `step` when `count` examples are walked through in a new random order every epoch."""
    per_epoch = max(count // batch_size, 1)
    epoch, place = divmod(step, per_epoch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed("epoch", seed, epoch)))
    return order[place * batch_size : (place + 1) * batch_size]


def _difference(images: Tensor, axis: int) -> Tensor:
    return images.diff(dim=axis)
