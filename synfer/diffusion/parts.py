"""The parts of a Stable Diffusion folder as hubs and their users leave it: variants of the weights, schedulers of many classes, old names.

What a part must be is checked where it is read: a missing weight would otherwise be drawn at random with a log line, a scheduler that
clips would cut the latents, and a U-Net of another family would fail deep inside with a message about shapes.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel

from synfer.errors import SynferError

PREDICTIONS = ("epsilon", "v_prediction")
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_SUFFIXES = (".safetensors", ".bin")


class BackboneError(SynferError):
    """A backbone folder that is missing, incomplete or of another family; the message names the folder and the part."""


def read_model(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model of class `kind` from its folder, in full or in the variant that is there (`*.fp16.safetensors`).

    Raises BackboneError if the folder holds no weights, another class, unreadable weights, or lacks one.
    """
    config = _read_json(folder / "config.json")
    found = config.get("_class_name") or (config.get("architectures") or [kind.__name__])[0]
    if found != kind.__name__:
        raise BackboneError(f"{folder} holds a {found}, not a {kind.__name__}")
    try:
        model, report = kind.from_pretrained(folder, variant=_variant(folder), torch_dtype=dtype, output_loading_info=True)
    except (OSError, RuntimeError, SafetensorError) as error:  # damaged weights, or weights of other shapes than the configuration's
        raise BackboneError(f"{folder} cannot be read: {' '.join(str(error).split())}") from error
    if missing := sorted(report["missing_keys"]):
        raise BackboneError(f"{folder} lacks the weight {missing[0]} (and {len(missing) - 1} more)")
    return model


def read_scheduler(folder: Path) -> DDIMScheduler:
    """The noise schedule of a scheduler of any class, as DDIM; sampling makes what it needs from it.

    Stable Diffusion's own folders name PNDM. Latents are never clipped: they are no pixels. Raises BackboneError for a scheduler without
    the noise schedule of denoising diffusion, such as flow matching.
    """
    config = _read_json(folder / "scheduler_config.json")
    name = f"{folder / 'scheduler_config.json'} ({config.get('_class_name', 'unnamed')})"
    if "beta_schedule" not in config and config.get("trained_betas") is None:
        raise BackboneError(f"{name} has no beta_schedule; only denoising diffusion is supported, not flow matching")
    prediction = config.get("prediction_type", PREDICTIONS[0])
    if prediction not in PREDICTIONS:
        raise BackboneError(f"{name} predicts {prediction!r}; supported: {', '.join(PREDICTIONS)}")
    known = {"clip_sample": False, "set_alpha_to_one": config.get("set_alpha_to_one", False)}
    return DDIMScheduler.from_config({**config, **known})


def check_parts(unet: UNet2DConditionModel, vae: AutoencoderKL, text_encoder: CLIPTextModel, *, where: str) -> None:
    """Raise BackboneError unless the parts fit one another and the U-Net takes latents, text and nothing else."""
    shape = unet.config
    if shape.in_channels != vae.config.latent_channels:
        reason = "an inpainting or depth model?" if shape.in_channels > vae.config.latent_channels else "another autoencoder?"
        raise BackboneError(
            f"{where}: the U-Net takes {shape.in_channels} channels, the autoencoder has {vae.config.latent_channels}; {reason}"
        )
    if shape.cross_attention_dim != text_encoder.config.hidden_size:
        width = text_encoder.config.hidden_size
        raise BackboneError(f"{where}: the U-Net reads text of width {shape.cross_attention_dim}, the text encoder writes {width}")
    if shape.addition_embed_type is not None or shape.class_embed_type is not None:
        extra = shape.addition_embed_type or shape.class_embed_type
        raise BackboneError(f"{where}: the U-Net also wants {extra!r} embeddings (SDXL?); supported are Stable Diffusion 1.x and 2.x")


def cast(module: Any, dtype: torch.dtype) -> Any:
    """Cast in place; unlike diffusers' own `to` without a warning about a list that is empty."""
    return nn.Module.to(module, dtype=dtype)


def _variant(folder: Path) -> str | None:
    """None for `diffusion_pytorch_model.safetensors`, "fp16" for `diffusion_pytorch_model.fp16.safetensors` where only that is there."""
    stems = [path.stem for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES]
    variants = [rest.lstrip(".") for stem in stems for name in _STEMS if stem.startswith(name) for rest in [stem.removeprefix(name)]]
    whole = [variant for variant in variants if not variant or variant.startswith("-")]  # in one file, or -00001-of-00002
    if whole:
        return None
    if not variants:
        raise BackboneError(
            f"{folder} holds no weights; expected {' or '.join(f'{_STEMS[0]}{suffix}' for suffix in _SUFFIXES)}, or a variant"
        )
    return "fp16" if "fp16" in variants else variants[0].partition("-")[0]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackboneError(f"{path} does not exist") from None
    except json.JSONDecodeError as error:
        raise BackboneError(f"{path} is not readable JSON: {error}") from error
    return found
