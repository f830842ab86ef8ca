"""The shapes of Stable Diffusion 1.5 with random weights: what fits them fits the real weights, and no download is needed to see it.

The numbers are those of the published folder (`unet/config.json`, `vae/config.json`, `text_encoder/config.json`); a test holds them to the
published parameter counts.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from synfer.captions import vocabulary_corpus
from synfer.diffusion.au_adapter import attach_au_adapter
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.tiny_sd import grammar_tokenizer

PARAMETERS = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}
"""Of the published weights."""

_TOKENS = 77


def sd15_unet(*, sample_size: int = 64) -> UNet2DConditionModel:
    """The U-Net; `sample_size` is the side of the latents, 64 for images of 512 pixels."""
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        cross_attention_dim=768,
        attention_head_dim=8,  # the number of heads, by an old naming accident of diffusers
        norm_num_groups=32,
    )


def sd15_autoencoder() -> AutoencoderKL:
    """The autoencoder: 512 pixels to 64 cells of 4 channels."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=512,
        scaling_factor=0.18215,
    )


def sd15_text_encoder() -> CLIPTextModel:
    """CLIP ViT-L/14's text model."""
    config = CLIPTextConfig(
        vocab_size=49_408,
        hidden_size=768,
        intermediate_size=3_072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=_TOKENS,
        projection_dim=768,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
    )
    return CLIPTextModel(config)


def sd15_scheduler() -> DDIMScheduler:
    """The noise schedule that the published PNDM scheduler has, as DDIM."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def sd15_backbone(*, sample_size: int = 64, seed: int = 0) -> Backbone:
    """A backbone of these shapes with weights drawn from `seed`, a silent AU adapter, and a tokenizer of the caption grammar."""
    torch.manual_seed(seed)
    unet = sd15_unet(sample_size=sample_size)
    return Backbone(
        unet=unet,
        vae=sd15_autoencoder(),
        text_encoder=sd15_text_encoder(),
        tokenizer=grammar_tokenizer(vocabulary_corpus(), max_length=_TOKENS),
        scheduler=sd15_scheduler(),
        au_adapter=attach_au_adapter(unet, silent=True),
        name="sd15-shapes",
    )
