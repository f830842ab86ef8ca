"""Training the latent guide on what it will see: the U-Net's own predictions of clean latents, at every noise level."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from synfer.diffusion.autoencoder import batch_rows
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.denoiser import Dropout, drop_conditions, middle_timesteps
from synfer.diffusion.latent_guide import LatentGuideError, LatentNetwork
from synfer.diffusion.prediction import predict, predict_clean
from synfer.diffusion.training import Schedule, Training
from synfer.seeding import derive_seed

BATCH = 64
_HALF = Dropout(caption=0.0, aus=0.0, nothing=0.5, some_aus=0.0)
_LABEL_SMOOTHING = 0.05


@dataclass(frozen=True)
class LabelledLatents:
    """Faces to learn from: latents (N, C, h, w), class indices (N,) or probabilities (N, K), token ids (N, L), AUs (N, AU_COUNT)."""

    latents: Tensor
    targets: Tensor
    token_ids: Tensor
    aus: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self, rows: Tensor) -> LabelledLatents:
        """The faces of these rows."""
        return LabelledLatents(self.latents[rows], self.targets[rows], self.token_ids[rows], self.aus[rows])


def train_latent_guide(
    backbone: Backbone, faces: LabelledLatents, *, outputs: int, schedule: Schedule, checkpoint: Path, seed: int, batch_size: int = BATCH
) -> LatentNetwork:
    """A guide of `outputs` classes for the latents of `backbone`, trained to the end of the schedule, resuming from `checkpoint`.

    The backbone is not changed. Raises LatentGuideError if there are fewer faces than a batch has.
    """
    if len(faces) < batch_size:
        raise LatentGuideError(f"a latent guide needs at least a batch of {batch_size} labelled faces, found {len(faces)}")
    channels, size, _ = backbone.latent_shape()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LatentNetwork(outputs, channels=channels, size=size).to(backbone.device).train()
    training = Training([network], schedule, checkpoint=checkpoint)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = faces.rows(batch_rows(len(faces), batch_size=batch_size, step=step, seed=seed))
        generator = torch.Generator().manual_seed(derive_seed("latent guide", seed, step))
        timesteps = middle_timesteps(len(batch), backbone.scheduler.config.num_train_timesteps, generator).to(backbone.device)
        clean = predicted_latents(backbone, batch, timesteps, generator=generator)
        logits, targets = network(clean, timesteps), batch.targets.to(backbone.device)
        return F.cross_entropy(logits, targets, label_smoothing=_LABEL_SMOOTHING), {"accuracy": float(_hits(logits, targets).mean())}

    training.run(loss, title="latent guide")
    training.ema.copy_to(training.parameters)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def predicted_latents(backbone: Backbone, faces: LabelledLatents, timesteps: Tensor, *, generator: torch.Generator) -> Tensor:
    """Clean latents (N, C, h, w) that the U-Net predicts of noised ones: half of the faces under their caption and AUs, half without."""
    latents = faces.latents.to(backbone.device, backbone.unet.dtype)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    token_ids, aus = drop_conditions(
        faces.token_ids, faces.aus, empty=backbone.tokenize([""])[0], dropout=_HALF, generator=generator
    )  # fmt: skip
    prompt_embeds = backbone.text_encoder(token_ids.to(latents.device)).last_hidden_state
    noisy = backbone.scheduler.add_noise(latents, noise, timesteps)
    prediction = predict(backbone, noisy, timesteps, prompt_embeds, aus.to(latents))
    return predict_clean(backbone, noisy, timesteps, prediction)


@torch.no_grad()
def accuracy_by_timestep(
    backbone: Backbone, network: LatentNetwork, faces: LabelledLatents, *, timesteps: Sequence[int], seed: int, batch_size: int = BATCH
) -> dict[int, float]:
    """Share of the faces whose class the guide tells from predictions at each of `timesteps`."""
    found = {}
    for timestep in timesteps:
        generator = torch.Generator().manual_seed(derive_seed("latent guide score", seed, timestep))
        hits = []
        for rows in torch.arange(len(faces)).split(batch_size):
            batch = faces.rows(rows)
            at = torch.full((len(batch),), timestep, device=backbone.device)
            hits.append(_hits(network(predicted_latents(backbone, batch, at, generator=generator), at), batch.targets.to(backbone.device)))
        found[timestep] = float(torch.cat(hits).mean())
    return found


def _hits(logits: Tensor, targets: Tensor) -> Tensor:
    """1 where the most probable class is that of the target, else 0, float (N,)."""
    truth = targets.argmax(dim=1) if targets.ndim == 2 else targets
    return (logits.argmax(dim=1) == truth).float()
