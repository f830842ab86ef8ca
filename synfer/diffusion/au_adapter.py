"""The AU adapter: decoupled cross-attention over one token per action unit, on diffusers' IP-Adapter processors.

    Z = Attn(Q, K_text, V_text) + s * Attn(Q, K_au, V_au)        (SynFER, arXiv 2410.09865; IP-Adapter, arXiv 2308.06721)

Three properties that a single-token, binary adapter cannot have:
1. One token per AU, so the softmax over AUs differs from place to place and an AU can act locally. (With a single key it is 1 everywhere.)
2. "Unspecified" is not "relaxed": an AU whose intensity is NaN has a learned null embedding, one AU at a time.
3. Intensities are ordinal: the embedding runs along learned increments A, B, C, D, E; a fractional intensity lies between its neighbours.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import MultiIPAdapterImageProjection
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synfer.files import whole_file
from synfer.vocabulary import AU_COUNT, MAX_INTENSITY

WEIGHTS = "au_adapter.safetensors"
_LEVELS = int(MAX_INTENSITY)


class AUTokens(nn.Module):
    """AU intensities to tokens: identity embedding + ordinal intensity embedding, mixed by a small MLP."""

    def __init__(self, cross_attention_dim: int) -> None:
        super().__init__()
        self.identity = nn.Parameter(torch.randn(AU_COUNT, cross_attention_dim) * 0.5)
        self.increments = nn.Parameter(torch.randn(AU_COUNT, _LEVELS, cross_attention_dim) * 0.5)  # A, B, C, D, E of each AU
        self.unspecified = nn.Parameter(torch.zeros(AU_COUNT, cross_attention_dim))
        self.mix = nn.Sequential(
            nn.LayerNorm(cross_attention_dim), nn.Linear(cross_attention_dim, cross_attention_dim), nn.SiLU(),
            nn.Linear(cross_attention_dim, cross_attention_dim),
        )  # fmt: skip
        self.norm = nn.LayerNorm(cross_attention_dim)

    def forward(self, intensities: Tensor) -> Tensor:
        """(N, AU_COUNT) intensities 0..5, NaN where unspecified -> (N, AU_COUNT, cross_attention_dim)."""
        known = ~intensities.isnan()
        value = torch.nan_to_num(intensities).to(self.identity.dtype)
        levels = torch.arange(_LEVELS, device=value.device, dtype=value.dtype)
        reached = (value[..., None] - levels).clamp(0.0, 1.0)  # (N, A, 5): intensity 2.4 -> 1, 1, 0.4, 0, 0
        graded = torch.einsum("nal,ald->nad", reached, self.increments)
        tokens = self.identity + torch.where(known[..., None], graded, self.unspecified)
        return self.norm(tokens + self.mix(tokens))


@dataclass(frozen=True)
class AUAdapter:
    """The adapter's parts inside a U-Net: the token layer and the processors of the cross-attention layers, in the U-Net's order."""

    tokens: AUTokens
    processors: dict[str, IPAdapterAttnProcessor2_0]
    index: int  # which of the U-Net's IP-Adapters this one is

    def parameters(self) -> Iterator[nn.Parameter]:
        """The adapter's own weights: tokens, and K and V of every cross-attention layer."""
        yield from self.tokens.parameters()
        for processor in self.processors.values():
            yield from processor.to_k_ip[self.index].parameters()
            yield from processor.to_v_ip[self.index].parameters()

    def set_scale(self, scale: float) -> None:
        """Weight s of the AU branch; at 0 the U-Net is exactly the base model."""
        for processor in self.processors.values():
            processor.scale[self.index] = scale

    def state_dict(self) -> dict[str, Tensor]:
        """Weights by name, independent of which other adapters the U-Net carries."""
        state = {f"tokens.{name}": value for name, value in self.tokens.state_dict().items()}
        for name, processor in self.processors.items():
            state[f"{name}.to_k.weight"] = processor.to_k_ip[self.index].weight
            state[f"{name}.to_v.weight"] = processor.to_v_ip[self.index].weight
        return {name: value.detach().contiguous().cpu() for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy weights in place; raises ValueError naming the first key that is missing or of another shape."""
        own = self._tensors()
        for name, parameter in own.items():
            if name not in state or state[name].shape != parameter.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise ValueError(f"AU adapter weights: {name} should be {tuple(parameter.shape)}, found {found}")
            with torch.no_grad():
                parameter.copy_(state[name])

    def _tensors(self) -> dict[str, Tensor]:
        own: dict[str, Tensor] = {f"tokens.{name}": value for name, value in self.tokens.named_parameters()}
        for name, processor in self.processors.items():
            own[f"{name}.to_k.weight"] = processor.to_k_ip[self.index].weight
            own[f"{name}.to_v.weight"] = processor.to_v_ip[self.index].weight
        return own

    def save(self, folder: Path, *, dtype: torch.dtype | None = None) -> None:
        """Write `au_adapter.safetensors` into `folder`, cast to `dtype` when given."""
        state = {name: value.to(dtype or value.dtype) for name, value in self.state_dict().items()}
        with whole_file(folder / WEIGHTS) as temporary:
            save_file(state, temporary)


def attach_au_adapter(unet: UNet2DConditionModel) -> AUAdapter:
    """Add an AU adapter to a U-Net, beside any IP-Adapter it already has; K and V start as copies of the text branch's.

    Afterwards the U-Net wants `added_cond_kwargs={"image_embeds": [..., aus]}` with `aus` (N, 1, AU_COUNT), see `au_condition`.
    """
    width = unet.config.cross_attention_dim
    tokens = AUTokens(width)
    layers = [*unet.encoder_hid_proj.image_projection_layers] if _carries_ip_adapter(unet) else []
    index = len(layers)
    processors: dict[str, nn.Module] = {}
    for name, processor in unet.attn_processors.items():
        is_cross = name.endswith("attn2.processor")
        processors[name] = _grown(unet, name, processor, num_adapters=index + 1) if is_cross else AttnProcessor2_0()
    unet.set_attn_processor(processors)
    unet.encoder_hid_proj = MultiIPAdapterImageProjection([*layers, tokens])
    unet.config.encoder_hid_dim_type = "ip_image_proj"
    cross = {name.removesuffix(".processor"): p for name, p in unet.attn_processors.items() if name.endswith("attn2.processor")}
    return AUAdapter(tokens=tokens.to(unet.device, unet.dtype), processors=cross, index=index)


def load_au_adapter(unet: UNet2DConditionModel, folder: Path) -> AUAdapter:
    """Attach the adapter saved in `folder` to a U-Net of the same widths."""
    adapter = attach_au_adapter(unet)
    adapter.load_state_dict(load_file(folder / WEIGHTS))
    return adapter


def au_condition(aus: Tensor) -> dict[str, list[Tensor]]:
    """`added_cond_kwargs` of a U-Net whose only adapter is the AU adapter, from intensities (N, AU_COUNT)."""
    return {"image_embeds": [aus[:, None, :]]}


def unspecified(count: int, *, device: torch.device | str = "cpu") -> Tensor:
    """The AU condition that asks for nothing, (count, AU_COUNT) of NaN: the null of classifier-free guidance."""
    return torch.full((count, AU_COUNT), float("nan"), device=device)


def _carries_ip_adapter(unet: UNet2DConditionModel) -> bool:
    return isinstance(getattr(unet, "encoder_hid_proj", None), MultiIPAdapterImageProjection)


def _grown(unet: UNet2DConditionModel, name: str, old: Any, *, num_adapters: int) -> IPAdapterAttnProcessor2_0:
    """A processor with one more adapter than `old`; the new K and V are copies of the text branch's."""
    attention = unet.get_submodule(name.removesuffix(".processor"))
    hidden, width = attention.to_k.out_features, attention.to_k.in_features
    counts = [*getattr(old, "num_tokens", [])[: num_adapters - 1], AU_COUNT]
    grown = IPAdapterAttnProcessor2_0(hidden, width, num_tokens=counts, scale=[1.0] * num_adapters).to(unet.device, unet.dtype)
    for index in range(num_adapters - 1):
        grown.to_k_ip[index], grown.to_v_ip[index] = old.to_k_ip[index], old.to_v_ip[index]
        grown.scale[index] = old.scale[index]
    with torch.no_grad():
        grown.to_k_ip[-1].weight.copy_(attention.to_k.weight)
        grown.to_v_ip[-1].weight.copy_(attention.to_v.weight)
    return grown
