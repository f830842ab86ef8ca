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
from synfer.diffusion.parts import BackboneError, cast, check_parts, read_model, read_scheduler
from synfer.files import sha256, write_json

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
ADAPTER, INDEX = "au_adapter", "model_index.json"


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
    """Read a diffusers folder, one of ours or as a hub has it; what else lies there (safety checker, feature extractor) is not read.

    Without `au_adapter` inside, a silent adapter is attached: until it is trained the base draws what it always drew. The scheduler may be
    of any class with a noise schedule. Raises BackboneError naming the folder and the part that is missing or does not fit,
    LatentGuideError if `guide` is that of another autoencoder.
    """
    for part in PARTS:
        if not (folder / part).is_dir():
            raise BackboneError(f"backbone {folder} has no {part}/; expected a diffusers folder with {', '.join(PARTS)}")
    scheduler = read_scheduler(folder / "scheduler")
    unet = read_model(UNet2DConditionModel, folder / "unet", dtype)
    vae = read_model(AutoencoderKL, folder / "vae", torch.float32)  # cast below: the guide knows the weights as they lie on disk
    text_encoder = read_model(CLIPTextModel, folder / "text_encoder", dtype)
    check_parts(unet, vae, text_encoder, where=f"backbone {folder}")
    has_adapter = (folder / ADAPTER / WEIGHTS).is_file()
    adapter = load_au_adapter(unet, folder / ADAPTER) if has_adapter else attach_au_adapter(unet, silent=True)
    guide = load_latent_guide(folder / GUIDE, vae=vae, device=device) if (folder / GUIDE).is_dir() else None
    return Backbone(
        unet=unet.to(device),
        vae=cast(vae, dtype).to(device),
        text_encoder=text_encoder.to(device),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler=scheduler,
        au_adapter=adapter,
        name=folder.name,
        guide=guide,
    ).eval()


def save_backbone(backbone: Backbone, folder: Path, *, dtype: torch.dtype | None = None) -> Path:
    """Write a folder that `StableDiffusionPipeline.from_pretrained` reads, adapter and guide beside it; `dtype` casts what is on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    plain_unet(backbone.unet, dtype=dtype).save_pretrained(folder / "unet")
    for part in (backbone.vae, backbone.scheduler):
        part.register_to_config(_name_or_path=None)  # else the path it was read from travels with the weights
    for name in ("vae", "text_encoder"):
        module = getattr(backbone, name)
        own = module.dtype
        cast(module, dtype or own).save_pretrained(folder / name)
        cast(module, own)
    backbone.tokenizer.save_pretrained(folder / "tokenizer")
    backbone.scheduler.save_pretrained(folder / "scheduler")
    backbone.au_adapter.save(folder / ADAPTER, dtype=dtype)
    if (guide := backbone.guide) is not None:
        save_latent_guide(guide.module, folder / GUIDE, classes=guide.classes, vae=backbone.vae, card=guide.card, dtype=dtype)
    write_json(folder / INDEX, _pipeline_index(backbone))
    return folder


def plain_unet(unet: UNet2DConditionModel, *, dtype: torch.dtype | None = None) -> UNet2DConditionModel:
    """A copy of a U-Net without its adapters: their processors are modules and would enter the checkpoint."""
    foreign = ("encoder_hid_dim_type", "encoder_hid_dim", "_name_or_path")
    plain = UNet2DConditionModel.from_config({name: value for name, value in unet.config.items() if name not in foreign})
    adapters = (".processor.", "encoder_hid_proj")
    plain.load_state_dict({name: value for name, value in unet.state_dict().items() if not any(part in name for part in adapters)})
    return cast(plain, dtype or unet.dtype)


def _pipeline_index(backbone: Backbone) -> dict[str, object]:
    """`model_index.json` of a text-to-image pipeline without safety checker."""
    parts = {part: type(getattr(backbone, part)) for part in PARTS}
    classes: dict[str, object] = {part: [kind.__module__.partition(".")[0], kind.__name__] for part, kind in parts.items()}
    absent = {part: [None, None] for part in ("safety_checker", "feature_extractor", "image_encoder")}
    return {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False, **classes, **absent}


def backbone_sha256(folder: Path) -> str:
    """Hash of a backbone's weights and configuration."""
    return sha256(folder)


def copy_backbone(source: Path, target: Path) -> Path:
    """Copy a backbone folder unchanged."""
    return Path(shutil.copytree(source, target, dirs_exist_ok=True))
