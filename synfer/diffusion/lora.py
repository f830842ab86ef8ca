"""Low-rank adaptation of a U-Net by peft: a few per cent of the weights, merged back into the base when training ends."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
"""Projections of self- and text cross-attention; the AU branch has its own K and V and is trained in full."""


def add_lora(unet: UNet2DConditionModel, *, rank: int) -> list[nn.Parameter]:
    """Inject LoRA layers of `rank` into the attention projections; returns their parameters. The output is unchanged at first."""
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=TARGETS), unet)
    return [parameter for name, parameter in unet.named_parameters() if "lora_" in name]


def merge_lora(unet: UNet2DConditionModel) -> None:
    """Add every LoRA product to its base weight and take the LoRA layers out again."""
    for name, layer in [(name, module) for name, module in unet.named_modules() if isinstance(module, LoraLayer)]:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(unet.get_submodule(parent), child, layer.get_base_layer())
