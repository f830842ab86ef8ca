"""The latent guide of tiny-sd, trained on the generator's own renders: it is on the generator's side and shares people with nobody else."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from components.assets.generator import LatentFaces, encode_faces
from components.assets.renders import IMAGES_AN_IDENTITY, Range, Renders, trained_on
from components.device import torch_device
from components.latent_guide import SCORED_AT
from components.latent_guide_role import ROLE
from synfer.diffusion.backbone import load_backbone
from synfer.diffusion.latent_guide import GUIDE, load_latent_guide, save_latent_guide
from synfer.diffusion.latent_guide_fit import LabelledLatents, accuracy_by_timestep, train_latent_guide
from synfer.diffusion.training import Schedule
from synfer.files import replace_folder
from synfer.vocabulary import DEFAULT_EXPRESSIONS

SCHEDULE = Schedule(steps=600, learning_rate=2e-3, warmup=30, ema_decay=0.995, save_every=50)
_HELD_OUT = 8  # one person in eight is kept for the card's accuracy
_SCORED = 1_400


def make_latent_guide(folder: Path, faces: Renders, wanted: Range, *, work: Path, seed: int, schedule: Schedule = SCHEDULE) -> Path:
    """Train a guide for the backbone in `folder` on the faces with an expression, resuming from `work`; writes and returns `folder/guide`.

    `wanted` is the range that `faces` were drawn from. Latents are those that the generator learned from, computed if they are not there.
    """
    backbone = load_backbone(folder, device=torch_device("auto")).requires_grad_(False)
    train, val = _split(encode_faces(backbone, faces, work), len(faces))
    checkpoint = work / "latent-guide-checkpoint"
    network = train_latent_guide(backbone, train, outputs=len(DEFAULT_EXPRESSIONS), schedule=schedule, checkpoint=checkpoint, seed=seed)
    accuracy = accuracy_by_timestep(backbone, network, val, timesteps=SCORED_AT, seed=seed)
    card = {
        "role": ROLE, "command": "make assets", "seed": seed, "schedule": asdict(schedule), "trained_on": trained_on(wanted),
        "val_accuracy_at": accuracy,
    }  # fmt: skip
    temporary = work / ".latent-guide.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    save_latent_guide(network, temporary, classes=DEFAULT_EXPRESSIONS, vae=backbone.vae, card=card, dtype=torch.float16)
    load_latent_guide(temporary, vae=backbone.vae)  # the weights on disk are the card's
    return replace_folder(temporary, folder / GUIDE)


def _split(data: LatentFaces, renders: int) -> tuple[LabelledLatents, LabelledLatents]:
    """Training faces with an expression, mirrored ones among them, and held-out ones of other people as they were drawn."""
    rows = torch.arange(len(data.latents))
    held_out, known = (rows % renders // IMAGES_AN_IDENTITY) % _HELD_OUT == 0, data.classes >= 0
    chosen = rows[known & ~held_out], rows[known & held_out & (rows < renders)][:_SCORED]
    train, val = (LabelledLatents(data.latents[at], data.classes[at], data.token_ids[at], data.aus[at]) for at in chosen)
    return train, val
