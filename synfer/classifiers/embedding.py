"""Networks that turn a face into a vector: any timm model without its head, or one of this project's classifiers.

A vector says who somebody is only as far as its network has learned to tell people apart (ArcFace, arXiv 1801.07698; MagFace,
arXiv 2103.06627). A network of expressions has learned the opposite, to see the same expression in different people.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401 - mends torchvision before timm imports it

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from synfer.classifiers.models import CARD, ClassifierError, load
from synfer.pixels import to_tensor

_HUB_CARD = "config.json"
_HUBS = ("hf-hub:", "hf_hub:", "local-dir:")


@dataclass(frozen=True)
class Embedding:
    """Images uint8 (N, size, size, 3) -> vectors float32 (N, width) of length 1, whose scalar product is the cosine similarity."""

    name: str
    size: int
    network: Callable[[Tensor], Tensor]
    device: torch.device

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        vectors = self.network(to_tensor(images).to(self.device)).float().flatten(1)
        return F.normalize(vectors, dim=1).cpu().numpy()


def open_embedding(model: str, *, device: str | torch.device = "cpu") -> Embedding:
    """A folder of this project (`card.json`) or of timm (`config.json`), or the name of a timm model with published weights.

    Raises ClassifierError if there is no such model, or if its weights are not here and cannot be fetched.
    """
    folder, place = Path(model), torch.device(device)
    if (folder / CARD).is_file():
        network = load(folder, device=place).module
        return Embedding(model, network.image_size, network.features, place)
    if folder.is_dir() and not (folder / _HUB_CARD).is_file():
        raise ClassifierError(f"{model} holds neither {CARD}, a classifier of this project, nor {_HUB_CARD}, a model of timm")
    return _of_timm(model, f"local-dir:{folder}" if folder.is_dir() else model, place)


def _of_timm(model: str, name: str, device: torch.device) -> Embedding:
    if not name.startswith(_HUBS) and not timm.is_model(name):
        raise ClassifierError(f"{model!r} is neither a folder nor a model of timm")
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0).eval().requires_grad_(False).to(device)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        found = str(error).split("\n", 1)[0]
        raise ClassifierError(f"the weights of {model} cannot be had ({found}); give a local folder, or set HF_HUB_OFFLINE=0") from error
    settings = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(settings[name], device=device).view(1, -1, 1, 1) for name in ("mean", "std"))
    return Embedding(model, settings["input_size"][-1], lambda images: network((images * 0.5 + 0.5 - mean) / std), device)
