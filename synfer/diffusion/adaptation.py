"""What of a backbone is trained: the AU adapter alone, LoRA and adapter, or all of the U-Net; frozen parts may rest in half precision."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from synfer.diffusion.backbone import Backbone
from synfer.diffusion.lora import add_lora, merge_lora

Adapt = Literal["none", "adapter", "lora", "full"]
"""adapter: the AU adapter, on a frozen base; lora: low-rank layers and the adapter; full: every weight of the U-Net; none: nothing."""


def set_trainable(backbone: Backbone, adapt: Adapt, *, lora_rank: int = 8, train_text_encoder: bool = False) -> list[nn.Module]:
    """Freeze all but what `adapt` names, in place, and return the modules that hold it.

    `train_text_encoder` adds the text encoder: low-rank layers of it under lora, all of it under full.
    """
    backbone.requires_grad_(False)
    if adapt == "none":
        return []
    modules: list[nn.Module] = [backbone.unet, *([backbone.text_encoder] if train_text_encoder else [])]
    for module in modules:
        if adapt == "lora":
            add_lora(module, rank=lora_rank)  # its new parameters are free
        elif adapt == "full":
            module.requires_grad_(True)
    for parameter in backbone.au_adapter.parameters():
        parameter.requires_grad_(True)
    return modules


def lower_frozen(backbone: Backbone, dtype: torch.dtype) -> None:
    """Cast every frozen weight to `dtype` in place: half the memory, and mixed precision computes in it anyway.

    What trains stays in float32, or its small steps would be rounded away.
    """
    for module in (backbone.unet, backbone.vae, backbone.text_encoder):
        for parameter in module.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)


def trained_weights(backbone: Backbone) -> dict[str, Tensor]:
    """A copy of the weights that train, by name, on the CPU."""
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in _trainable(backbone).items()}


def load_trained_weights(backbone: Backbone, weights: dict[str, Tensor]) -> None:
    """Copy `trained_weights` into a backbone that `set_trainable` has prepared alike; raises KeyError naming one that is missing."""
    with torch.no_grad():
        for name, parameter in _trainable(backbone).items():
            parameter.copy_(weights[name])


def merge(backbone: Backbone) -> Backbone:
    """Fold LoRA layers, where there are any, into the base and freeze everything: a plain backbone, ready to be saved."""
    for module in (backbone.unet, backbone.text_encoder):
        merge_lora(module)
    return backbone.requires_grad_(False).eval()


def _trainable(backbone: Backbone) -> dict[str, nn.Parameter]:
    parts = {"unet": backbone.unet, "text_encoder": backbone.text_encoder}
    named = {f"{part}.{name}": parameter for part, module in parts.items() for name, parameter in module.named_parameters()}
    return {name: parameter for name, parameter in named.items() if parameter.requires_grad}
