"""FERAnno, the pseudo-label head on diffusion features: multi-scale U-Net maps and the cross-attention of the expression words.

Two encoders bring both to a small grid of tokens, a bi-directional cross-attention block lets each look at the other, and a linear head
reads all tokens in their places: a raised brow and a raised lip differ by where they are. After SynFER, which prints no widths. The head
takes tensors only, so any diffusion model can feed it. Where the corpus has action units, a second linear head [ours] reads their
intensities from the same tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synfer.annotation.calibration import AnnotationError
from synfer.files import sha256, whole_file, write_json

WEIGHTS, CARD = "model.safetensors", "card.json"
MAX_SIDE = 8
"""Cells a side to which larger maps are pooled: a mouth corner still fills a cell, and Stable Diffusion's maps can be stored."""

_TOKENS = 4  # tokens a side


@dataclass(frozen=True)
class FerannoShape:
    """What a head was built for: channels of each U-Net map, expression words with an attention map, class names, width.

    `aus` are the codes whose intensities it reads, left and right apart for sided units (`au_consistency.SIDE_CODES`); none for no AU head.
    """

    channels: tuple[int, ...]
    words: int
    classes: tuple[str, ...]
    width: int = 64
    heads: int = 4
    aus: tuple[str, ...] = ()


def pool_map(features: Tensor, side: int = MAX_SIDE) -> Tensor:
    """Maps (N, C, h, w) averaged down to at most `side` cells a side; smaller ones are returned as they are."""
    height, width = features.shape[-2:]
    return F.adaptive_avg_pool2d(features, (min(height, side), min(width, side)))


class Standardize(nn.Module):
    """Maps (N, C, h, w) with each channel's training mean 0 and deviation 1; the statistics are buffers, set by `measure`."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("deviation", torch.ones(1, channels, 1, 1))

    def measure(self, features: Tensor) -> None:
        """Take the statistics of training maps (N, C, h, w); a constant channel keeps deviation 1."""
        deviation, mean = torch.std_mean(features.float(), dim=(0, 2, 3), keepdim=True, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation)))

    def forward(self, features: Tensor) -> Tensor:
        return (features.float() - self.mean) / self.deviation


class Encoder(nn.Module):
    """Several maps (N, C_i, h_i, w_i) as one grid of tokens (N, 16, width): projected, summed at the finest grid, convolved down."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.standardize = nn.ModuleList(Standardize(count) for count in channels)
        self.project = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.convolve = nn.Sequential(
            nn.GroupNorm(1, width), nn.GELU(), nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(1, width), nn.GELU(), nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip
        self.position = nn.Parameter(torch.zeros(1, _TOKENS**2, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        side = max(min(features.shape[-1], MAX_SIDE) for features in maps)
        grid = torch.stack([self._at_side(features, number, side) for number, features in enumerate(maps)]).sum(dim=0)
        grid = F.adaptive_avg_pool2d(grid + self.convolve(grid), _TOKENS)
        return self.norm(grid.flatten(2).transpose(1, 2) + self.position)

    def _at_side(self, features: Tensor, number: int, side: int) -> Tensor:
        projected = self.project[number](self.standardize[number](pool_map(features)))
        return F.interpolate(projected, size=(side, side), mode="bilinear", align_corners=False)


class BidirectionalFusion(nn.Module):
    """Two token sets (N, T, width) look at each other: each is the query of one attention and the key and value of the other."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.left = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.right = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.left_norm, self.right_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        from_right, _ = self.left(left, right, right, need_weights=False)
        from_left, _ = self.right(right, left, left, need_weights=False)
        return self.left_norm(left + from_right), self.right_norm(right + from_left)


class Feranno(nn.Module):
    """U-Net maps and attention maps -> class logits (N, K), and AU intensities (N, A) where the shape names AUs."""

    def __init__(self, shape: FerannoShape, *, dropout: float = 0.2) -> None:
        super().__init__()
        self.shape = shape
        self.map_encoder = Encoder(shape.channels, shape.width)
        self.attention_encoder = Encoder((shape.words,), shape.width)
        self.fusion = BidirectionalFusion(shape.width, shape.heads, dropout)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * _TOKENS**2 * shape.width, len(shape.classes))
        self.au_head = nn.Linear(2 * _TOKENS**2 * shape.width, len(shape.aus)) if shape.aus else None

    def measure(self, maps: Sequence[Tensor], attention: Tensor) -> None:
        """Take the standardisation of every input from training features (shapes as in `forward`)."""
        for standardize, features in zip(self.map_encoder.standardize, maps, strict=True):
            standardize.measure(features)  # type: ignore[operator]  # a ModuleList does not know its members' methods
        self.attention_encoder.standardize[0].measure(attention)  # type: ignore[operator]

    def forward(self, maps: Sequence[Tensor], attention: Tensor) -> Tensor:
        """Logits (N, K) of U-Net maps [(N, C_i, h_i, w_i)] and attention maps (N, words, h, w)."""
        return self.head(self._tokens(maps, attention))

    def read(self, maps: Sequence[Tensor], attention: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and AU intensities (N, A), in steps and not clipped, of inputs as in `forward`; A is 0 without an AU head."""
        tokens = self._tokens(maps, attention)
        return self.head(tokens), tokens.new_zeros(len(tokens), 0) if self.au_head is None else self.au_head(tokens)

    def _tokens(self, maps: Sequence[Tensor], attention: Tensor) -> Tensor:
        found = tuple(features.shape[1] for features in maps), attention.shape[1]
        if found != (self.shape.channels, self.shape.words):
            raise AnnotationError(
                f"features have channels and words {found}; this head was built for {self.shape.channels, self.shape.words}"
            )
        seen, attended = self.fusion(self.map_encoder(maps), self.attention_encoder([attention]))
        return self.dropout(torch.cat([seen, attended], dim=1)).flatten(1)


def save_feranno(model: Feranno, folder: Path, card: dict[str, Any]) -> str:
    """Write weights and card to a folder; the card gains the head's shape. Returns the SHA-256 of the weights."""
    with whole_file(folder / WEIGHTS) as temporary:
        safetensors.torch.save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, temporary)
    digest = sha256(folder / WEIGHTS)
    write_json(folder / CARD, {**card, "shape": asdict(model.shape), "sha256": digest})
    return digest


def load_feranno(folder: Path, *, device: str | torch.device = "cpu") -> tuple[Feranno, dict[str, Any]]:
    """The head that `save_feranno` wrote, ready to predict, and its card; raises AnnotationError if a file is missing or was changed."""
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise AnnotationError(f"{folder / name} does not exist; a FERAnno folder holds {WEIGHTS} and {CARD}")
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    if (digest := sha256(folder / WEIGHTS)) != card["sha256"]:
        raise AnnotationError(f"{folder / WEIGHTS} has sha256 {digest[:12]}, its card says {card['sha256'][:12]}")
    # JSON has lists for tuples; cards of heads without AUs may lack `aus`.
    shape: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in card["shape"].items()}
    model = Feranno(FerannoShape(**shape))
    model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    return model.eval().requires_grad_(False).to(device), card
