"""A backbone: a diffusers Stable-Diffusion folder (unet, vae, text_encoder, tokenizer, scheduler); `au_adapter` and `guide` lie beside."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from synfer.diffusion.au_adapter import WEIGHTS, AUAdapter, attach_au_adapter, load_au_adapter
from synfer.diffusion.latent_guide import GUIDE, LatentGuide, load_latent_guide, save_latent_guide
from synfer.errors import SynferError
from synfer.files import sha256

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
ADAPTER = "au_adapter"


class BackboneError(SynferError):
    """A backbone folder that is missing or incomplete; the message names the folder and the part."""


@dataclass
class Backbone:
    """The models that draw a face, on one device."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler
    au_adapter: AUAdapter
    name: str = "unnamed"
    guide: LatentGuide | None = None

    @property
    def device(self) -> torch.device:
        """Device of the U-Net."""
        return self.unet.device

    @property
    def image_size(self) -> int:
        """Side of the decoded images in pixels."""
        return self.unet.config.sample_size * self.downscale

    @property
    def downscale(self) -> int:
        """Pixels a latent cell, 8 for Stable Diffusion."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one sample's latents."""
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    def embed(self, captions: Sequence[str]) -> Tensor:
        """Prompt embeddings (N, L, D) of captions; longer ones than the tokenizer's maximum are cut."""
        return self.text_encoder(self.tokenize(captions).to(self.device)).last_hidden_state

    def tokenize(self, captions: Sequence[str]) -> Tensor:
        """Token ids (N, L) of captions, padded to the tokenizer's maximum."""
        length = self.tokenizer.model_max_length
        return self.tokenizer(list(captions), padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids

    def encode(self, images: Tensor) -> Tensor:
        """Mean latents (N, C, h, w), scaled for the U-Net, of images (N, 3, H, W) in [-1, 1]."""
        return self.vae.encode(images.to(self.device, self.vae.dtype)).latent_dist.mean * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Images (N, 3, H, W), about [-1, 1], of scaled latents; differentiable."""
        return self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample

    def requires_grad_(self, wanted: bool) -> Backbone:
        """Freeze or free every weight."""
        for module in (self.unet, self.vae, self.text_encoder):
            module.requires_grad_(wanted)
        return self

    def eval(self) -> Backbone:
        """Put every module into evaluation mode."""
        for module in (self.unet, self.vae, self.text_encoder):
            module.eval()
        return self


def load_backbone(folder: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """Read a diffusers folder; without `au_adapter` inside, a fresh adapter (which copies the text branch) is attached.

    Raises BackboneError naming the folder or the part that is missing, LatentGuideError if `guide` is that of another autoencoder.
    """
    for part in PARTS:
        if not (folder / part).is_dir():
            raise BackboneError(f"backbone {folder} has no {part}/; expected a diffusers folder with {', '.join(PARTS)}")
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype)
    adapter = load_au_adapter(unet, folder / ADAPTER) if (folder / ADAPTER / WEIGHTS).is_file() else attach_au_adapter(unet)
    vae = AutoencoderKL.from_pretrained(folder / "vae")  # cast below: the guide knows the weights as they lie on disk
    guide = load_latent_guide(folder / GUIDE, vae=vae, device=device) if (folder / GUIDE).is_dir() else None
    return Backbone(
        unet=unet.to(device),
        vae=vae.to(device, dtype),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=dtype).to(device),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        au_adapter=adapter,
        name=folder.name,
        guide=guide,
    ).eval()


def save_backbone(backbone: Backbone, folder: Path, *, dtype: torch.dtype | None = None) -> Path:
    """Write a diffusers folder that Stable Diffusion pipelines can read, adapter and guide beside it; `dtype` casts the weights on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    plain_unet(backbone.unet, dtype=dtype).save_pretrained(folder / "unet")
    for part in (backbone.vae, backbone.scheduler):
        part.register_to_config(_name_or_path=None)  # else the path it was read from travels with the weights
    for name in ("vae", "text_encoder"):
        module = getattr(backbone, name)
        own = module.dtype
        module.to(dtype or own).save_pretrained(folder / name)
        module.to(own)
    backbone.tokenizer.save_pretrained(folder / "tokenizer")
    backbone.scheduler.save_pretrained(folder / "scheduler")
    backbone.au_adapter.save(folder / ADAPTER, dtype=dtype)
    if (guide := backbone.guide) is not None:
        save_latent_guide(guide.module, folder / GUIDE, classes=guide.classes, vae=backbone.vae, card=guide.card, dtype=dtype)
    return folder


def plain_unet(unet: UNet2DConditionModel, *, dtype: torch.dtype | None = None) -> UNet2DConditionModel:
    """A copy of a U-Net without its adapters: their processors are modules and would enter the checkpoint."""
    foreign = ("encoder_hid_dim_type", "encoder_hid_dim", "_name_or_path")
    plain = UNet2DConditionModel.from_config({name: value for name, value in unet.config.items() if name not in foreign})
    adapters = (".processor.", "encoder_hid_proj")
    plain.load_state_dict({name: value for name, value in unet.state_dict().items() if not any(part in name for part in adapters)})
    return plain.to(dtype or unet.dtype)


def backbone_sha256(folder: Path) -> str:
    """Hash of a backbone's weights and configuration."""
    return sha256(folder)


def copy_backbone(source: Path, target: Path) -> Path:
    """Copy a backbone folder unchanged."""
    return Path(shutil.copytree(source, target, dirs_exist_ok=True))
