"""A timm backbone, or a plain CNN, as FER classifier or AU regressor, saved as `model.safetensors` and a `card.json` that rebuilds it.

Without outputs, as with timm's `num_classes=0`, a network is an encoder: what it gives are its features.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401 - mends torchvision before timm imports it

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import timm
import torch
from torch import nn
from torch.nn import functional as F

from synfer.classifiers.backbones import ClassifierError, backbone_of
from synfer.files import sha256, whole_file, write_json

WEIGHTS, CARD = "model.safetensors", "card.json"

Module = TypeVar("Module", bound=nn.Module)


class Network(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] -> outputs (N, K); resizing and the backbone's own normalisation happen inside.

    `classes` names the K outputs: expressions, or the AUs of a regressor; with K = 0 the outputs are the features (N, width). `cells` is
    the side of the grid that the last feature map is averaged into: 1 for all of it, more where it matters in which part of the face
    something is. A grid is not layer-normalised: its many features share a large mean, on which a fresh head overshoots at every step.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, architecture: str, outputs: int, *, classes: tuple[str, ...], image_size: int, cells: int = 1, pretrained: bool = False,
        dropout: float = 0.1, drop_path: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture, self.outputs, self.classes, self.image_size, self.cells = architecture, outputs, classes, image_size, cells
        self.backbone, channels = backbone_of(architecture, image_size, pretrained, drop_path=drop_path)
        self.width = channels * cells**2
        self.norm = nn.LayerNorm(self.width) if cells == 1 else nn.Identity()
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.width, outputs)) if outputs else nn.Sequential()
        settings = timm.get_pretrained_cfg(architecture) or timm.models.PretrainedCfg()
        self.register_buffer("mean", torch.tensor(settings.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(1, 3, 1, 1), persistent=False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Penultimate features (N, width): pooled and, without a grid, layer-normalised, so of unit scale whatever the backbone."""
        if images.shape[-1] != self.image_size:
            images = F.interpolate(images, size=(self.image_size, self.image_size), mode="bilinear", antialias=True, align_corners=False)
        (maps,) = self.backbone(self.normalised(images))  # [(N, C, h, w)]
        return self.norm(F.adaptive_avg_pool2d(maps, self.cells).flatten(1))

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Images in [-1, 1] with the mean and the spread that the backbone was made for."""
        return (images * 0.5 + 0.5 - self.mean) / self.std

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))

    @torch.no_grad()
    def divide_logits(self, temperature: float) -> None:
        """Divide the outputs by a temperature > 0 for good, in the last layer: temperature scaling (Guo et al. 2017) without a field."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear), "an encoder has no logits"
        last.weight.div_(temperature)
        last.bias.div_(temperature)


@dataclass(frozen=True)
class Classifier:
    """A trained model with the names of its outputs and the hash of its weights."""

    module: Network
    classes: tuple[str, ...]
    sha256: str
    card: dict[str, Any]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of images float (N, 3, H, W) in [-1, 1]."""
        return self.module(images)


def create(
    architecture: str, classes: Sequence[str] | int, *, image_size: int, cells: int = 1, seed: int = 0, pretrained: bool = False,
    dropout: float = 0.1, drop_path: float = 0.0,
) -> Network:  # fmt: skip
    """A network with fresh weights drawn from `seed`; `classes` are the names of the outputs, or only their number; 0 makes an encoder.

    `pretrained` fetches the backbone's published weights. `dropout` is the share of features that training leaves out before the last
    layer, `drop_path` the share of residual branches (arXiv:1603.09382). Raises ClassifierError on an unknown architecture, or on
    `drop_path` where timm has none for it.
    """
    outputs, names = (classes, ()) if isinstance(classes, int) else (len(classes), tuple(classes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(
            architecture, outputs, classes=names, image_size=image_size, cells=cells, pretrained=pretrained, dropout=dropout,
            drop_path=drop_path,
        )  # fmt: skip


def save(model: Network, folder: Path, card: dict[str, Any]) -> str:
    """Write weights and card to a folder; the card gains all that `load` needs. Returns the SHA-256 of the weights."""
    with whole_file(folder / WEIGHTS) as temporary:
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        safetensors.torch.save_file(state, temporary)
    digest = sha256(folder / WEIGHTS)
    made = {name: getattr(model, name) for name in ("architecture", "classes", "outputs", "image_size", "cells")}
    count = sum(parameter.numel() for parameter in model.parameters())
    write_json(folder / CARD, {**card, **made, "parameters": count, "sha256": digest})
    return digest


def load(folder: Path, *, device: str | torch.device = "cpu") -> Classifier:
    """The classifier that `save` wrote, ready to predict; raises ClassifierError if a file is missing or the weights are not the card's."""
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise ClassifierError(f"{folder / name} does not exist; a classifier folder holds {WEIGHTS} and {CARD}")
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    digest = sha256(folder / WEIGHTS)
    if digest != card["sha256"]:
        raise ClassifierError(f"{folder / WEIGHTS} has sha256 {digest[:12]}, its card says {card['sha256'][:12]}")
    model = create(card["architecture"], card["classes"] or card["outputs"], image_size=card["image_size"], cells=card.get("cells", 1))
    model.load_state_dict({name: value.float() for name, value in safetensors.torch.load_file(folder / WEIGHTS).items()})
    to_device(model.eval().requires_grad_(False), device)
    return Classifier(model, tuple(card["classes"]), digest, card)


def to_device(model: Module, device: str | torch.device) -> Module:
    """Move `model` in place, weights channels-last: the fast layout for convolutions, on CPU as on CUDA."""
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model.to(device)
