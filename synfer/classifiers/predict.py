"""What a model says about pixels: probabilities, AU intensities, penultimate features.

A model works where it is, and its answers come back as arrays; with `device` it is moved there, and stays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from synfer.classifiers.models import Classifier, Network
from synfer.pixels import to_tensor
from synfer.vocabulary import MAX_INTENSITY


def predict(
    model: Network | Classifier, images: np.ndarray, *, batch_size: int = 256, device: str | torch.device | None = None
) -> np.ndarray:
    """Class probabilities float32 (N, K) of images uint8 (N, H, W, 3)."""
    module = _module(model)
    width = module.outputs or module.width
    return _in_batches(lambda batch: module(batch).float().softmax(dim=1), module, images, batch_size, device, width=width)


def predict_aus(
    model: Network | Classifier, images: np.ndarray, *, batch_size: int = 256, device: str | torch.device | None = None
) -> np.ndarray:
    """AU intensities 0..5, float32 (N, K), of images uint8 (N, H, W, 3); for a regressor of its K `classes`, see `fit.action_units`."""
    module = _module(model)
    width = module.outputs or module.width
    return _in_batches(lambda batch: module(batch).float().clamp(0, MAX_INTENSITY), module, images, batch_size, device, width=width)


def features(
    model: Network | Classifier, images: np.ndarray, *, batch_size: int = 256, device: str | torch.device | None = None
) -> np.ndarray:
    """Penultimate features float32 (N, width) of images uint8 (N, H, W, 3)."""
    module = _module(model)
    return _in_batches(lambda batch: module.features(batch).float(), module, images, batch_size, device, width=module.width)


def _module(model: Network | Classifier) -> Network:
    return model.module if isinstance(model, Classifier) else model


@torch.inference_mode()
def _in_batches(
    call: Callable[[torch.Tensor], torch.Tensor],
    module: Network,
    images: np.ndarray,
    batch_size: int,
    device: str | torch.device | None,
    *,
    width: int,
) -> np.ndarray:
    was_training = module.training
    if device is None:
        device = next(module.parameters()).device
    module.eval().to(device)
    rows = [call(to_tensor(images[start : start + batch_size]).to(device)).cpu() for start in range(0, len(images), batch_size)]
    module.train(was_training)
    return torch.cat(rows).numpy() if rows else np.zeros((0, width), np.float32)
