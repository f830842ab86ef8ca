"""Self-supervised pre-training of any timm backbone: SimCLR, BYOL, MoCo v3, and MAE for vision transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synfer.classifiers.backbones import ClassifierError
from synfer.classifiers.contrastive import BYOL, MoCoV3, SimCLR
from synfer.classifiers.loop import Schedule, run_loop
from synfer.classifiers.masked_autoencoder import MAE
from synfer.classifiers.models import Network, create
from synfer.classifiers.predict import features
from synfer.classifiers.views import MILD, Views
from synfer.pixels import to_tensor
from synfer.seeding import derive_seed
from synfer.vocabulary import unknown

METHODS: dict[str, Callable[..., nn.Module]] = {"simclr": SimCLR, "byol": BYOL, "mocov3": MoCoV3, "mae": MAE}
"""Name -> module; each is built from an encoder, its views and, where it has one, a temperature."""

WITH_TEMPERATURE = ("simclr", "mocov3")


def pretrain(
    images: np.ndarray,
    *,
    method: str,
    backbone: str,
    schedule: Schedule,
    seed: int = 0,
    device: str | torch.device = "cpu",
    views: Views | None = None,
    temperature: float | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Network:
    """An encoder trained on images uint8 (N, S, S, 3) without labels; a `Network` without outputs, in eval mode, with averaged weights.

    `method` is one of METHODS, `backbone` any timm architecture (MAE: a plain vision transformer). `views` defaults to what the method
    needs. With `checkpoint` an interrupted training goes on, see `run_loop`. Raises ClassifierError on an unknown method, a backbone that
    does not fit it, images that are not square or fewer than two, or a temperature where the method has none.
    """
    _check(images, method, temperature)
    encoder = create(backbone, 0, image_size=images.shape[1], seed=seed)
    module = _module(method, encoder, views=views, temperature=temperature, seed=seed)

    def loss(rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return module(to_tensor(images[rows]).to(device), generator), {}

    parts: dict[str, Any] = {"seed": seed, "device": device, "checkpoint": checkpoint, "on_epoch": on_epoch}
    run_loop(module, len(images), schedule, loss=loss, after_step=module.update, title=f"{method} {backbone}", **parts)
    return encoder


def encode(encoder: Network, images: np.ndarray, batch_size: int = 256, device: str | torch.device | None = None) -> np.ndarray:
    """Features float32 (N, D) of images uint8 (N, H, W, 3); the encoder works where it is, or is moved to `device`."""
    return features(encoder, images, batch_size=batch_size, device=device)


def _module(method: str, encoder: Network, *, views: Views | None, temperature: float | None, seed: int) -> Any:
    """The method's module around the encoder, its heads drawn from the seed."""
    settings = {} if temperature is None else {"temperature": temperature}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, method))
        return METHODS[method](encoder, views=views or (MILD if method == "mae" else Views()), **settings)


def _check(images: np.ndarray, method: str, temperature: float | None) -> None:
    if method not in METHODS:
        raise ClassifierError(unknown("method", method, METHODS))
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
        raise ClassifierError(f"images must be uint8 (N, S, S, 3), found {images.dtype} {images.shape}")
    if len(images) < 2:
        raise ClassifierError(f"self-supervised training compares images, so it needs at least two, found {len(images)}")
    if temperature is not None and method not in WITH_TEMPERATURE:
        raise ClassifierError(f"{method} has no temperature; {' and '.join(WITH_TEMPERATURE)} have one")
