"""What a denoiser knows about a face: U-Net feature maps at several scales and cross-attention maps of the expression words.

One pass over the barely noised image under a caption that names every expression (FERAnno, SynFER section 3.4); no attention processor is
replaced: the maps are recomputed with an explicit softmax from what each layer was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synfer.captions import EXPRESSION_WORDS
from synfer.diffusion.au_adapter import au_condition, unspecified
from synfer.diffusion.backbone import Backbone
from synfer.seeding import randn


@dataclass(frozen=True)
class UnetFeatures:
    """Features of N images: `maps` of the middle and every up block, (N, C, h, w) each; `attention` (N, words, h, w), sums to at most 1."""

    maps: list[Tensor]
    attention: Tensor


@torch.no_grad()
def unet_features(backbone: Backbone, images: Tensor, *, timestep: int, seeds: Sequence[int]) -> UnetFeatures:
    """Features of images (N, 3, H, W) in [-1, 1], noised to `timestep` with each image's own seed."""
    latents = backbone.encode(images)
    noise = randn(tuple(latents.shape[1:]), seeds).to(latents)
    time = torch.full((len(images),), timestep, device=latents.device, dtype=torch.long)
    noisy = backbone.scheduler.add_noise(latents, noise, time)
    caption, positions = naming_caption(backbone)
    prompt_embeds = backbone.embed([caption]).expand(len(images), -1, -1)
    with _blocks(backbone) as maps, _cross_attention(backbone) as attention:
        backbone.unet(noisy, time, prompt_embeds, added_cond_kwargs=au_condition(unspecified(len(images), device=latents.device)))
    return UnetFeatures(maps=maps, attention=_words(attention, positions))


def naming_caption(backbone: Backbone) -> tuple[str, list[list[int]]]:
    """A caption that names every expression, and the token positions of each expression word in it.

    Long tokenisations are cut at the tokenizer's maximum; a word that does not fit raises ValueError.
    """
    words = list(EXPRESSION_WORDS.values())
    positions, place = [], 1  # after the start token
    for word in words:
        length = len(backbone.tokenizer(word, add_special_tokens=False).input_ids)
        positions.append(list(range(place, place + length)))
        place += length
    if place >= backbone.tokenizer.model_max_length:
        raise ValueError(f"the expression words take {place} tokens, the tokenizer holds {backbone.tokenizer.model_max_length}")
    return " ".join(words), positions


@contextmanager
def _blocks(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Collects the outputs of the middle block and the up blocks, in the order of the forward pass."""
    maps: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _module, _inputs, output: maps.append(output.float()))
        for block in (backbone.unet.mid_block, *backbone.unet.up_blocks)
    ]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _cross_attention(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Collects text attention (N, h, w, L) of every cross-attention layer of the up blocks, averaged over heads."""
    found: list[Tensor] = []

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(_attention(module, args[0] if args else kwargs["hidden_states"], kwargs["encoder_hidden_states"]))

    layers = [module for name, module in backbone.unet.up_blocks.named_modules() if name.endswith("attn2")]
    hooks = [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _attention(layer: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | tuple[Tensor, list[Tensor]]) -> Tensor:
    text = encoder_hidden_states[0] if isinstance(encoder_hidden_states, tuple) else encoder_hidden_states
    query, key = (_heads(projected, layer.heads) for projected in (layer.to_q(hidden_states), layer.to_k(text)))
    weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)  # (N, h w, L)
    side = int(weights.shape[1] ** 0.5)
    return weights.unflatten(1, (side, side)).float()


def _heads(projected: Tensor, heads: int) -> Tensor:
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)  # (N, heads, tokens, width)


def _words(attention: list[Tensor], positions: list[list[int]]) -> Tensor:
    """Attention of each word (N, words, h, w): summed over its tokens, averaged over layers at the finest of their sizes."""
    side = max(layer.shape[1] for layer in attention)
    per_layer = []
    for layer in attention:
        words = torch.stack([layer[..., place].sum(dim=-1) for place in positions], dim=1)
        per_layer.append(F.interpolate(words, size=(side, side), mode="bilinear", align_corners=False))
    return torch.stack(per_layer).mean(dim=0)
