"""tiny-sd: the real Stable Diffusion classes at small size, untrained. Widths are arguments; nothing else in the library knows them."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import json
from collections.abc import Iterable

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from synfer.diffusion.au_adapter import attach_au_adapter
from synfer.diffusion.backbone import Backbone

START, END = "<|startoftext|>", "<|endoftext|>"


def tiny_autoencoder(*, channels: tuple[int, ...] = (24, 48, 64), latent_channels: int = 8, image_size: int = 64) -> AutoencoderKL:
    """AutoencoderKL that halves the side len(channels) - 1 times; no attention in the middle, one residual block a level.

    Eight latent channels: with four a patch of 4x4 pixels is left little more than its colour, and lips and teeth blur.
    """
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=image_size,
        scaling_factor=1.0,  # the training folds the latents' mean and scale into the quant convolutions
    )


def tiny_unet(
    *,
    sample_size: int = 16,
    latent_channels: int = 8,
    channels: tuple[int, ...] = (64, 112, 128),
    cross_attention_dim: int = 96,
    layers_per_block: int = 1,
) -> UNet2DConditionModel:
    """U-Net with cross-attention at every level but the first, where it would cost most and a cell is smaller than a feature."""
    deeper = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * deeper),
        up_block_types=(*("CrossAttnUpBlock2D",) * deeper, "UpBlock2D"),
        layers_per_block=layers_per_block,
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=4,  # the number of heads, by an old naming accident of diffusers
        norm_num_groups=16,
    )


def tiny_text_encoder(tokenizer: CLIPTokenizer, *, width: int = 96, layers: int = 2) -> CLIPTextModel:
    """CLIP text model as wide as the U-Net's cross-attention."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def grammar_tokenizer(phrases: Iterable[str], *, vocabulary_size: int = 700, max_length: int = 48) -> CLIPTokenizer:
    """CLIP tokenizer whose merges are learned from the phrases of the caption grammar, so that a caption takes few tokens."""
    bpe = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=[START, END], initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator((phrase.lower() for phrase in phrases), trainer)
    return _clip_tokenizer(bpe, max_length)


def _clip_tokenizer(bpe: Tokenizer, max_length: int) -> CLIPTokenizer:
    """CLIPTokenizer with the merges of `bpe`; CLIP also wants every letter as the end of a word."""
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [START, END, *letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocabulary, merges=merges, bos_token=START, eos_token=END, unk_token=END, pad_token=END, model_max_length=max_length
    )


def tiny_scheduler() -> DDIMScheduler:
    """DDIM on Stable Diffusion's noise schedule, v-prediction: the predicted image stays bounded at high noise, nothing burns out."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def tiny_backbone(vae: AutoencoderKL, tokenizer: CLIPTokenizer, *, channels: tuple[int, ...] = (64, 112, 128), width: int = 96) -> Backbone:
    """An untrained generator around a trained autoencoder."""
    downscale = 2 ** (len(vae.config.block_out_channels) - 1)
    unet = tiny_unet(
        sample_size=vae.config.sample_size // downscale,
        latent_channels=vae.config.latent_channels,
        channels=channels,
        cross_attention_dim=width,
    )
    adapter = attach_au_adapter(unet)
    return Backbone(
        unet=unet,
        vae=vae,
        text_encoder=tiny_text_encoder(tokenizer, width=width),
        tokenizer=tokenizer,
        scheduler=tiny_scheduler(),
        au_adapter=adapter,
        name="tiny-sd",
    )
