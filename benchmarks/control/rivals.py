"""One token for all AUs against one token per AU: fresh adapters of equal size on the same frozen U-Net, trained on the same faces.

With a single key the softmax of the AU branch is 1 at every position, so the branch adds one vector everywhere and nothing can act locally
(the form of FineFace and, as far as its text tells, of SynFER).
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from components.assets.renders import GENERATOR, Range, plan, renders
from synfer.captions import caption
from synfer.diffusion.au_adapter import AUTokens, attach_au_adapter
from synfer.diffusion.autoencoder import batch_rows, face_weight
from synfer.diffusion.backbone import Backbone, plain_unet
from synfer.diffusion.denoiser import Dropout, denoising_loss
from synfer.diffusion.training import Schedule, Training
from synfer.faces.identity import draw_identity
from synfer.pixels import to_tensor
from synfer.seeding import derive_seed
from synfer.vocabulary import AU_COUNT, MAX_INTENSITY

BATCH = 32
LEARNING_RATE = 2e-3
_ENCODE_BATCH = 64
_SEED = 0


class SingleToken(nn.Module):
    """All AUs in one token: an MLP of the intensities and of which of them are known, as wide as `budget` parameters allow."""

    def __init__(self, cross_attention_dim: int, *, budget: int) -> None:
        super().__init__()
        width = single_token_width(cross_attention_dim, budget)
        self.mix = nn.Sequential(nn.Linear(2 * AU_COUNT, width), nn.SiLU(), nn.Linear(width, cross_attention_dim))
        self.norm = nn.LayerNorm(cross_attention_dim)

    def forward(self, intensities: Tensor) -> Tensor:
        """(N, AU_COUNT) intensities 0..5, NaN where unspecified -> (N, 1, cross_attention_dim)."""
        weight = self.norm.weight
        known = (~intensities.isnan()).to(weight.dtype)
        value = torch.nan_to_num(intensities).to(weight.dtype) / MAX_INTENSITY
        return self.norm(self.mix(torch.cat([value, known], dim=1)))[:, None]


Data = tuple[Tensor, Tensor, Tensor]
"""Latents (N, C, h, w), token ids (N, L), AU intensities (N, AU_COUNT)."""


def single_token_width(cross_attention_dim: int, budget: int) -> int:
    """Hidden width whose MLP and norm come nearest to `budget` parameters."""
    fixed, per_unit = 3 * cross_attention_dim, 2 * AU_COUNT + 1 + cross_attention_dim
    return max(1, round((budget - fixed) / per_unit))


def per_au_tokens(backbone: Backbone) -> nn.Module:
    """Fresh tokens of the library's kind."""
    return AUTokens(backbone.unet.config.cross_attention_dim)


def single_token(backbone: Backbone) -> nn.Module:
    """A fresh single token with as many parameters as the library's tokens."""
    width = backbone.unet.config.cross_attention_dim
    return SingleToken(width, budget=sum(parameter.numel() for parameter in AUTokens(width).parameters()))


RIVALS: dict[str, Callable[[Backbone], nn.Module]] = {"per_au_tokens": per_au_tokens, "single_token": single_token}


def training_faces(count: int, *, size: int) -> Range:
    """New faces of the generator's own people, all with independent AUs."""
    return Range(count, GENERATOR, derive_seed("control", _SEED) % 10**6, size=size, independent=1.0)


@torch.no_grad()
def training_latents(backbone: Backbone, wanted: Range, folder: Path) -> Data:
    """Latents, token ids and AUs of the renders, which are kept in `folder`.

    Captions name the person only: if they told the AUs too, the adapter would learn less of them.
    """
    drawn = renders(folder, wanted)
    captions = [caption("", attributes=draw_identity(face.identity).attributes) for face in plan(wanted)]
    starts = range(0, wanted.count, _ENCODE_BATCH)
    latents = torch.cat([backbone.encode(to_tensor(drawn.images[start : start + _ENCODE_BATCH])).cpu() for start in starts])
    return latents, backbone.tokenize(captions), torch.from_numpy(drawn.aus)


def train_rival(backbone: Backbone, tokens: Callable[[Backbone], nn.Module], data: Data, *, steps: int, title: str) -> Backbone:
    """The backbone, its U-Net copied and frozen, with a fresh adapter of these tokens trained for `steps`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        fresh = tokens(backbone)
    unet = plain_unet(backbone.unet).to(backbone.device).requires_grad_(False)
    rival = replace(backbone, unet=unet, au_adapter=attach_au_adapter(unet, tokens=fresh, silent=True))
    for parameter in rival.au_adapter.parameters():
        parameter.requires_grad_(True)
    latents, token_ids, aus = data
    weight = face_weight(latents.shape[-1], emphasis=1.5).to(backbone.device)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rows = batch_rows(len(latents), batch_size=BATCH, step=step, seed=_SEED)
        generator = torch.Generator().manual_seed(derive_seed("control", _SEED, step))
        batch = latents[rows].to(backbone.device), token_ids[rows], aus[rows].clone()
        return denoising_loss(rival, *batch, generator=generator, dropout=Dropout(), weight=weight), {}

    with tempfile.TemporaryDirectory() as checkpoint:
        schedule = Schedule(steps, LEARNING_RATE, warmup=max(steps // 20, 1), ema_decay=0.99, save_every=steps)
        training = Training([unet.train()], schedule, checkpoint=Path(checkpoint) / "last")
        training.run(loss, title=title)
        training.ema.copy_to(training.parameters)
    unet.requires_grad_(False).eval()
    return rival
