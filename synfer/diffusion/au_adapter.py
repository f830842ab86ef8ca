"""The AU adapter: decoupled cross-attention over one token per action unit, on diffusers' IP-Adapter processors.

    Z = Attn(Q, K_text, V_text) + s * Attn(Q, K_au, V_au)        (SynFER, arXiv 2410.09865; IP-Adapter, arXiv 2308.06721)

Three properties that a single-token, binary adapter cannot have:
1. One token per AU, so the softmax over AUs differs from place to place and an AU can act locally. (With a single key it is 1 everywhere.)
2. "Unspecified" is not "relaxed": an AU whose intensity is NaN has a learned null embedding, one AU at a time.
3. Intensities are ordinal: the embedding runs along learned increments A, B, C, D, E; a fractional intensity lies between its neighbours.

A side is its unit and something more: the token of L12 is that of 12 plus what is its own. Alone, the token of a side was never found by
training: faces that have only one are rare, and beside the unit's own token it says little.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import MultiIPAdapterImageProjection
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synfer.errors import SynferError
from synfer.files import whole_file
from synfer.vocabulary import AU_COUNT, AU_INDEX, MAX_INTENSITY, SIDED_AUS

WEIGHTS = "au_adapter.safetensors"
_LEVELS = int(MAX_INTENSITY)
_SIDES = [AU_INDEX[f"{side}{unit}"] for unit in SIDED_AUS for side in "LR"]
_UNITS = [AU_INDEX[unit] for unit in SIDED_AUS for _ in "LR"]
"""Entries of the sides, left and right in turn, and of the units that they are sides of."""


class AdapterError(SynferError):
    """An AU adapter that does not fit its U-Net or is no longer in it; the message says what was found."""


class AUTokens(nn.Module):
    """AU intensities to tokens: identity embedding + ordinal intensity embedding, mixed by a small MLP.

    The rows of a side (L12) are added to those of its unit (12); they start alike for all left sides and for all right ones.
    """

    def __init__(self, cross_attention_dim: int) -> None:
        super().__init__()
        self.identity = nn.Parameter(torch.randn(AU_COUNT, cross_attention_dim) * 0.5)
        self.increments = nn.Parameter(torch.randn(AU_COUNT, _LEVELS, cross_attention_dim) * 0.5)  # A, B, C, D, E of each AU
        self.unspecified = nn.Parameter(torch.zeros(AU_COUNT, cross_attention_dim))
        with torch.no_grad():
            self.identity[_SIDES] = torch.randn(2, cross_attention_dim).repeat(len(SIDED_AUS), 1) * 0.5
            self.increments[_SIDES] = 0.0
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
        graded = torch.einsum("nal,ald->nad", reached, _with_units(self.increments))
        tokens = _with_units(self.identity) + torch.where(known[..., None], graded, self.unspecified)
        return self.norm(tokens + self.mix(tokens))


def _with_units(rows: Tensor) -> Tensor:
    """Rows (AU_COUNT, ...) in which every side has its unit's row added to its own."""
    return rows.index_add(0, torch.tensor(_SIDES, device=rows.device), rows[_UNITS])


class AUAdapter:
    """An AU adapter inside a U-Net: its token layer, and its K and V in every cross-attention layer.

    It looks its place up in the U-Net each time, because adapters that come or go later move it.
    """

    def __init__(self, unet: UNet2DConditionModel, tokens: nn.Module) -> None:
        self.unet, self.tokens = unet, tokens

    @property
    def index(self) -> int:
        """Which of the U-Net's IP-Adapters this one is; raises AdapterError once another loader has put it out of the U-Net."""
        layers = _image_projections(self.unet)
        places = [place for place, layer in enumerate(layers) if layer is self.tokens]
        if not places:
            raise AdapterError(f"the U-Net carries {len(layers)} IP-Adapters and no longer this AU adapter; load others by load_ip_adapter")
        return places[0]

    @property
    def processors(self) -> dict[str, IPAdapterAttnProcessor2_0]:
        """The processors of the cross-attention layers by layer name, in the U-Net's order."""
        return _cross_processors(self.unet)

    @property
    def silent(self) -> bool:
        """Whether it was never trained: every V is zero, and no AU changes what the U-Net predicts."""
        index = self.index
        return not any(bool(processor.to_v_ip[index].weight.any()) for processor in self.processors.values())

    def parameters(self) -> Iterator[nn.Parameter]:
        """The adapter's own weights: tokens, and K and V of every cross-attention layer."""
        yield from self._tensors().values()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same by the names that a saved adapter has."""
        yield from self._tensors().items()

    def set_scale(self, scale: float) -> None:
        """Weight s of the AU branch; at 0 the U-Net is exactly the base model. Other adapters keep theirs."""
        index = self.index
        for processor in self.processors.values():
            processor.scale[index] = scale

    def state_dict(self) -> dict[str, Tensor]:
        """Weights by name, independent of which other adapters the U-Net carries."""
        return {name: value.detach().contiguous().cpu() for name, value in self._tensors().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy weights in place; raises AdapterError naming the first key that is missing or of another shape."""
        own = self._tensors()
        for name, parameter in own.items():
            if name not in state or state[name].shape != parameter.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise AdapterError(f"AU adapter weights: {name} should be {tuple(parameter.shape)}, found {found}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def save(self, folder: Path, *, dtype: torch.dtype | None = None) -> None:
        """Write `au_adapter.safetensors` into `folder`, cast to `dtype` when given."""
        state = {name: value.to(dtype or value.dtype) for name, value in self.state_dict().items()}
        with whole_file(folder / WEIGHTS) as temporary:
            save_file(state, temporary)

    def _tensors(self) -> dict[str, nn.Parameter]:
        index = self.index
        own = {f"tokens.{name}": value for name, value in self.tokens.named_parameters()}
        for name, processor in self.processors.items():
            own[f"{name}.to_k.weight"] = processor.to_k_ip[index].weight
            own[f"{name}.to_v.weight"] = processor.to_v_ip[index].weight
        return own


def attach_au_adapter(unet: UNet2DConditionModel, *, silent: bool = False, tokens: nn.Module | None = None) -> AUAdapter:
    """Add an AU adapter to a U-Net, beside any IP-Adapter and LoRA it already has; K and V start as copies of the text branch's.

    `silent` starts V at zero, so that the U-Net predicts what it did before until the adapter is trained: what a trained base wants.
    `tokens` is another way from intensities (N, AU_COUNT) to tokens (N, T, cross_attention_dim) than fresh `AUTokens`, for comparison.
    Afterwards the U-Net wants `added_cond_kwargs={"image_embeds": [..., aus]}` with `aus` (N, 1, AU_COUNT), see `au_condition`.
    """
    tokens = (AUTokens(unet.config.cross_attention_dim) if tokens is None else tokens).to(unet.device, unet.dtype)
    layers = _image_projections(unet)
    _set_processors(unet, {name: _grown(unet, name, len(layers), silent=silent) for name in _cross_layers(unet)})
    _set_image_projections(unet, [*layers, tokens])
    return AUAdapter(unet, tokens)


def load_au_adapter(unet: UNet2DConditionModel, folder: Path) -> AUAdapter:
    """Attach the adapter saved in `folder` to a U-Net of the same widths; raises AdapterError naming a weight that does not fit."""
    adapter = attach_au_adapter(unet)
    adapter.load_state_dict(load_file(folder / WEIGHTS))
    return adapter


def load_ip_adapter(unet: UNet2DConditionModel, *states: dict[str, dict[str, Tensor]]) -> None:
    """Load published image IP-Adapters (`image_proj` and `ip_adapter` weights) without losing the adapters that the U-Net carries.

    diffusers' own loader replaces every processor, and an AU adapter would vanish without a word. Here new adapters come before those of
    the U-Net: their images come first in `added_cond_kwargs`, see `au_condition`. Scales start at 1.
    """
    layers, carried = _image_projections(unet), _cross_processors(unet) if _image_projections(unet) else {}
    unet._load_ip_adapter_weights(list(states), low_cpu_mem_usage=False)
    unet.encoder_hid_proj.to(unet.device, unet.dtype)
    for name, processor in _cross_processors(unet).items():
        processor.to(unet.device, unet.dtype)
        if name in carried:
            _extend(processor, carried[name])
    _set_image_projections(unet, [*_image_projections(unet), *layers])


def au_condition(aus: Tensor, *, images: Sequence[Tensor] = ()) -> dict[str, list[Tensor]]:
    """`added_cond_kwargs` of a U-Net from intensities (N, AU_COUNT).

    `images` are the embeddings (N, pictures, width) for the image IP-Adapters that stand before the AU adapter, in their order.
    """
    return {"image_embeds": [*images, aus[:, None, :]]}


def unspecified(count: int, *, device: torch.device | str = "cpu") -> Tensor:
    """The AU condition that asks for nothing, (count, AU_COUNT) of NaN: the null of classifier-free guidance."""
    return torch.full((count, AU_COUNT), float("nan"), device=device)


# --- places in a U-Net ------------------------------------------------------------------------------------------------------------


def _image_projections(unet: UNet2DConditionModel) -> list[nn.Module]:
    """The token layers of the IP-Adapters that a U-Net carries, in the order of their conditions."""
    projection = getattr(unet, "encoder_hid_proj", None)
    return [*projection.image_projection_layers] if isinstance(projection, MultiIPAdapterImageProjection) else []


def _set_image_projections(unet: UNet2DConditionModel, layers: list[nn.Module]) -> None:
    unet.encoder_hid_proj = MultiIPAdapterImageProjection(layers)
    unet.config.encoder_hid_dim_type = "ip_image_proj"


def _cross_layers(unet: UNet2DConditionModel) -> list[str]:
    """Names of the cross-attention layers; raises AdapterError for a U-Net without any."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor")]
    if not names:
        raise AdapterError("the U-Net has no cross-attention layer (attn2) that an AU adapter could join")
    return names


def _cross_processors(unet: UNet2DConditionModel) -> dict[str, IPAdapterAttnProcessor2_0]:
    return {name: unet.get_submodule(name).processor for name in _cross_layers(unet)}


def _set_processors(unet: UNet2DConditionModel, changed: dict[str, nn.Module]) -> None:
    for name, processor in changed.items():
        unet.get_submodule(name).set_processor(processor)


def _grown(unet: UNet2DConditionModel, name: str, carried: int, *, silent: bool) -> IPAdapterAttnProcessor2_0:
    """The processor of a layer with one more adapter than the `carried` ones, which stay."""
    attention = unet.get_submodule(name)
    hidden, width = attention.to_k.out_features, attention.to_k.in_features
    new = IPAdapterAttnProcessor2_0(hidden, width, num_tokens=[AU_COUNT], scale=[1.0]).to(unet.device, unet.dtype)
    with torch.no_grad():
        new.to_k_ip[0].weight.copy_(attention.to_k.weight)
        new.to_v_ip[0].weight.copy_(torch.zeros_like(attention.to_v.weight) if silent else attention.to_v.weight)
    if not carried:
        return new
    _extend(attention.processor, new)
    return attention.processor


def _extend(processor: IPAdapterAttnProcessor2_0, other: IPAdapterAttnProcessor2_0) -> None:
    """Append the adapters of `other` to `processor`, the same weights, not copies."""
    processor.num_tokens = [*processor.num_tokens, *other.num_tokens]
    processor.scale = [*processor.scale, *other.scale]
    processor.to_k_ip.extend(other.to_k_ip)
    processor.to_v_ip.extend(other.to_v_ip)
