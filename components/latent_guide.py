"""A latent guide trained on the corpus: for a backbone that has none, or whose own has never seen such faces."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from components.corpus import take_balanced
from components.device import torch_device
from components.fer_models import people
from components.latent_guide_role import ROLE
from components.latent_store import store_latents
from components.record import Record
from synfer.classifiers.examples import class_indices
from synfer.config import Common, Generator
from synfer.diffusion.backbone import Backbone, load_backbone
from synfer.diffusion.latent_guide import GUIDE, read_card, save_latent_guide
from synfer.diffusion.latent_guide_fit import LabelledLatents, accuracy_by_timestep, train_latent_guide
from synfer.diffusion.training import Schedule
from synfer.manifest import read_manifest
from synfer.metrics.roles import compact_identities
from synfer.seeding import derive_seed

SCORED_AT = (50, 250, 500, 750)
"""Timesteps at which a card tells the guide's accuracy."""

_LEARNING_RATE = 1e-3
_SCORED = 700


def add_latent_guide(section: Generator, common: Common, rows: pd.DataFrame, *, development: Path, folder: Path, work: Path) -> None:
    """Train a guide on the images `rows` of `development` for the backbone in `folder` and put it there, in place of an older one.

    Goes on from `work` after a kill.
    """
    backbone = load_backbone(folder, device=torch_device(common.device)).requires_grad_(False)
    train = take_balanced(rows[rows["expression"].isin(common.expressions)], section.guide_steps * section.batch_size)
    val = read_manifest(development).query("split == 'val'")
    val = take_balanced(val[val["expression"].isin(common.expressions)], _SCORED)
    network = train_latent_guide(
        backbone,
        _labelled(backbone, train, development, common, store=work / "latents"),
        outputs=len(common.expressions),
        schedule=Schedule(section.guide_steps, _LEARNING_RATE, warmup=max(section.guide_steps // 20, 1)),
        checkpoint=work / "checkpoint",
        seed=derive_seed(common.seed, ROLE),
        batch_size=section.batch_size,
    )
    held_out = _labelled(backbone, val, development, common, store=work / "val-latents")
    accuracy = accuracy_by_timestep(backbone, network, held_out, timesteps=SCORED_AT, seed=common.seed, batch_size=section.batch_size)
    trained_on = {"images": len(train), "identities": compact_identities(people(train))}
    card = {"role": ROLE, "seed": common.seed, "steps": section.guide_steps, "trained_on": trained_on, "val_accuracy_at": accuracy}
    save_latent_guide(network, folder / GUIDE, classes=common.expressions, vae=backbone.vae, card=card)


def record_latent_guide(backbone: Path, record: Record) -> None:
    """How well the guide in a backbone's folder, if there is one, tells classes from predictions at every noise level."""
    card = read_card(backbone / GUIDE) if (backbone / GUIDE).is_dir() else {}
    if "val_accuracy_at" not in card:
        return
    rows = [{"timestep": int(timestep), "share told": share} for timestep, share in card["val_accuracy_at"].items()]
    rows.sort(key=lambda row: row["timestep"])
    record.table(f"Latent guide {card['sha256'][:12]}: faces whose class it tells from what the U-Net predicts", pd.DataFrame(rows))


def _labelled(backbone: Backbone, rows: pd.DataFrame, folder: Path, common: Common, *, store: Path) -> LabelledLatents:
    found = store_latents(backbone, folder, rows, mirrored=False, store=store)
    targets = torch.from_numpy(class_indices(rows["expression"].tolist(), common.expressions))
    latents, token_ids, aus = (torch.from_numpy(array[:, 0]) for array in (found.latents, found.token_ids, found.aus))
    return LabelledLatents(latents, targets, token_ids.long(), aus)
