"""The latent guide: a small classifier of predicted clean latents that knows their timestep, so that guidance needs no decoder.

A pixel classifier has to wait for the decoder and meets blurred images that it never saw in training. This one reads what the U-Net
predicts at every noise level and was trained on just that (`latent_guide_fit`). It lies in its backbone's folder, `guide/`, because
latents mean something to their own autoencoder only: the card holds that autoencoder's hash, and loading beside another one is an error.
The U-Net is not part of the bond: fine-tuned, it predicts latents of the same space, and its backbone keeps the guide.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synfer.errors import SynferError
from synfer.files import sha256, whole_file, write_json

GUIDE = "guide"
WEIGHTS, CARD = "model.safetensors", "card.json"
_CELLS = 4  # cells a side of the last feature map: enough to tell a brow from a mouth
_TIME_CHANNELS = 64
_GROUPS = 8


class LatentGuideError(SynferError):
    """A latent guide that is missing, incomplete, or of another backbone; the message says what to do."""


class LatentNetwork(nn.Module):
    """Clean latents (N, C, h, w) as predicted at a timestep -> logits (N, K).

    diffusers' residual blocks with the timestep as scale and shift, the side halved down to four cells; the linear head reads every cell
    in its place, since faces are aligned.
    """

    def __init__(self, outputs: int, *, channels: int, size: int, width: int = 48) -> None:
        super().__init__()
        self.shape = {"outputs": outputs, "channels": channels, "size": size, "width": width}
        halvings = max(size // _CELLS, 1).bit_length() - 1
        widths = [width, *(min(step + 1, 2) * width for step in range(halvings + 1))]
        self.frequencies = Timesteps(_TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(_TIME_CHANNELS, _TIME_CHANNELS)
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(_block(*widths[place : place + 2], down=place > 0) for place in range(halvings + 1))
        cells = (size >> halvings) ** 2
        self.head = nn.Sequential(nn.GroupNorm(_GROUPS, widths[-1]), nn.SiLU(), nn.Flatten(), nn.Linear(widths[-1] * cells, outputs))

    def forward(self, clean: Tensor, timestep: Tensor) -> Tensor:
        """`timestep` is one for all samples or one each (N,)."""
        hidden = self.stem(clean.to(self.stem.weight.dtype))
        time = self.time(self.frequencies(timestep.to(clean.device).expand(len(clean))).to(hidden.dtype))
        for block in self.blocks:
            hidden = block(hidden, time)
        return self.head(hidden)


def _block(before: int, after: int, *, down: bool) -> nn.Module:
    return ResnetBlock2D(
        in_channels=before, out_channels=after, temb_channels=_TIME_CHANNELS, groups=_GROUPS, time_embedding_norm="scale_shift", down=down
    )


@dataclass(frozen=True)
class LatentGuide:
    """A trained network with the names of its outputs, the hash of its weights, and its card."""

    module: LatentNetwork
    classes: tuple[str, ...]
    sha256: str
    card: dict[str, Any]

    def __call__(self, clean: Tensor, timestep: Tensor) -> Tensor:
        """Logits (N, K) of clean latents (N, C, h, w) predicted at `timestep`; differentiable."""
        return self.module(clean, timestep)


def save_latent_guide(
    network: LatentNetwork,
    folder: Path,
    *,
    classes: Sequence[str],
    vae: AutoencoderKL,
    card: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> str:
    """Write weights (cast to `dtype` when given) and a card that gains all that `load_latent_guide` needs; returns the weights' SHA-256."""
    state = {name: value.detach().to("cpu", dtype or value.dtype).contiguous() for name, value in network.state_dict().items()}
    with whole_file(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
    digest = sha256(folder / WEIGHTS)
    count = sum(parameter.numel() for parameter in network.parameters())
    made = {
        "network": network.shape,
        "classes": list(classes),
        "autoencoder": autoencoder_sha256(vae),
        "parameters": count,
        "sha256": digest,
    }
    write_json(folder / CARD, {**card, **made})
    return digest


def load_latent_guide(folder: Path, *, vae: AutoencoderKL, device: str | torch.device = "cpu") -> LatentGuide:
    """The guide in `folder`, frozen, for the autoencoder beside it.

    Raises LatentGuideError if a file is missing, the weights are not the card's, or the guide reads another autoencoder's latents.
    """
    card = read_card(folder)
    digest = sha256(folder / WEIGHTS)
    if digest != card["sha256"]:
        raise LatentGuideError(f"{folder / WEIGHTS} has sha256 {digest[:12]}, its card says {card['sha256'][:12]}")
    if (own := autoencoder_sha256(vae)) != card["autoencoder"]:
        raise LatentGuideError(
            f"the latent guide {folder} reads latents of the autoencoder {card['autoencoder'][:12]}, not of {own[:12]} beside it; "
            "delete the folder and train a guide of this backbone with generator.guide_steps"
        )
    network = LatentNetwork(**card["network"])
    network.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    return LatentGuide(network.eval().requires_grad_(False).to(device), tuple(card["classes"]), digest, card)


def read_card(folder: Path) -> dict[str, Any]:
    """The card of the guide in `folder`; raises LatentGuideError if a file of it is missing."""
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise LatentGuideError(f"{folder / name} does not exist; train a latent guide with generator.guide_steps")
    card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    return card


def autoencoder_sha256(vae: AutoencoderKL) -> str:
    """Hash of an autoencoder's weights in half precision and by name, so that neither a cast nor a rewritten file changes it."""
    digest = hashlib.sha256()
    for name, value in sorted(vae.state_dict().items()):
        digest.update(name.encode() + b"\0" + value.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()
