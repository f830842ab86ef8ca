"""The autoencoder of tiny-sd: AutoencoderKL with pixel and feature losses, then unit latents."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from components.assets.renders import Renders
from components.device import torch_device
from synfer.classifiers.models import Network
from synfer.diffusion.autoencoder import batch_rows, face_weight, reconstruct, reconstruction_loss, standardise_latents
from synfer.diffusion.tiny_sd import tiny_autoencoder
from synfer.diffusion.training import Schedule, Training
from synfer.faces.sheet import labelled_sheet
from synfer.files import whole_file
from synfer.pixels import to_tensor
from synfer.seeding import derive_seed

_BATCH = 8
_STANDARDISED_ON = 2048


def perceptual(network: Network) -> Callable[[Tensor], list[Tensor]]:
    """Feature maps of every stage and the outputs of a network, for the feature loss."""

    def features(images: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        hooks = [stage.register_forward_hook(lambda _module, _inputs, output: found.append(output)) for stage in _stages(network)]
        outputs = network(images)
        for hook in hooks:
            hook.remove()
        return [*found, outputs]

    return features


def _stages(network: Network) -> list[nn.Module]:
    """The modules behind timm's feature list, those of reduction 2, 4, 8, ... that the network kept."""
    backbone: Any = network.backbone
    children = dict(backbone.named_children())
    return [children[stage["module"]] for stage in backbone.feature_info.info if stage["module"] in children]


def train_autoencoder(faces: Renders, network: Network, *, schedule: Schedule, checkpoint: Path, seed: int, sheets: Path) -> AutoencoderKL:
    """Train to the end of the schedule (resuming from `checkpoint`) and return the averaged model with unit latents."""
    torch.manual_seed(seed)
    device = torch_device("auto")
    vae = tiny_autoencoder(image_size=faces.images.shape[1]).to(device, memory_format=torch.channels_last)
    training = Training([vae], schedule, checkpoint=checkpoint)
    features, weight = perceptual(network.to(device)), face_weight(faces.images.shape[1]).to(device)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rows = batch_rows(len(faces), batch_size=_BATCH, step=step, seed=seed).sort().values.numpy()
        images = to_tensor(faces.images[rows]).to(device)
        return reconstruction_loss(vae, images, features=features, weight=weight, seed=derive_seed("vae", seed, step))

    def show(step: int, _: dict[str, float]) -> None:
        if step % schedule.save_every == 0:
            with training.averaged():
                _sheet(vae, faces, sheets / f"vae-{step:05d}.png")

    training.run(loss, title="autoencoder", on_step=show)
    training.ema.copy_to(training.parameters)
    batches = [to_tensor(faces.images[start : start + 64]).to(device) for start in range(0, min(_STANDARDISED_ON, len(faces)), 64)]
    standardise_latents(vae, batches)
    return vae.cpu()


def _sheet(vae: AutoencoderKL, faces: Renders, path: Path) -> None:
    images = np.asarray(faces.images[:14])
    sheet: Image.Image = labelled_sheet(np.concatenate([images, reconstruct(vae, images)]), columns=14, scale=2)
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG")
