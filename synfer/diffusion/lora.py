"""Low-rank adaptation of U-Net and text encoder by peft: a few per cent of the weights, merged back into the base when training ends.

The file that `save_lora` writes is the one of diffusers' pipelines: `StableDiffusionPipeline.load_lora_weights` reads it.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from pathlib import Path

from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import CLIPTextModel

from synfer.errors import SynferError

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
UNET_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
"""Projections of self- and text cross-attention; the AU branch has its own K and V and is trained in full."""

TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]


class LoraError(SynferError):
    """A folder without LoRA weights; the message names it."""


def add_lora(model: UNet2DConditionModel | CLIPTextModel, *, rank: int) -> list[nn.Parameter]:
    """Inject LoRA layers of `rank` into the attention projections; returns their parameters. The output is unchanged at first."""
    targets = UNET_TARGETS if isinstance(model, UNet2DConditionModel) else TEXT_TARGETS
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets), model)
    return [parameter for name, parameter in model.named_parameters() if "lora_" in name]


def merge_lora(model: nn.Module) -> None:
    """Add every LoRA product to its base weight and take the LoRA layers out again."""
    for name, layer in _lora_layers(model):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())


def save_lora(folder: Path, *, unet: UNet2DConditionModel, text_encoder: CLIPTextModel | None = None) -> Path:
    """Write the LoRA layers of a U-Net, and of a text encoder that has any, for diffusers' pipelines; returns the file."""
    layers = {"unet_lora_layers": _weights(unet)}
    if text_encoder is not None and _lora_layers(text_encoder):
        layers["text_encoder_lora_layers"] = _weights(text_encoder)
    StableDiffusionPipeline.save_lora_weights(folder, weight_name=LORA_WEIGHTS, **layers)
    return folder / LORA_WEIGHTS


def load_lora(folder: Path, *, unet: UNet2DConditionModel, text_encoder: CLIPTextModel | None = None) -> None:
    """Inject the LoRA layers that `save_lora` wrote; raises LoraError if there are none."""
    if not (folder / LORA_WEIGHTS).is_file():
        raise LoraError(f"{folder} holds no {LORA_WEIGHTS}")
    state, alphas = StableDiffusionPipeline.lora_state_dict(folder, weight_name=LORA_WEIGHTS)
    StableDiffusionPipeline.load_lora_into_unet(state, network_alphas=alphas, unet=unet)
    if text_encoder is not None and any(name.startswith("text_encoder.") for name in state):
        StableDiffusionPipeline.load_lora_into_text_encoder(state, network_alphas=alphas, text_encoder=text_encoder)


def _lora_layers(model: nn.Module) -> list[tuple[str, LoraLayer]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def _weights(model: nn.Module) -> dict[str, Tensor]:
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    return {name: value.detach().contiguous().cpu() for name, value in state.items()}
