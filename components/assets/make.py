"""All embedded weights from scratch, each step resumable: FER models, autoencoder, generator. `make assets` calls this."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from components.assets.autoencoder import train_autoencoder
from components.assets.card import measure, write_card
from components.assets.fer import make_fer_models
from components.assets.generator import encode_faces, more_one_sided, train_generator, untrained_generator, watch
from components.assets.latent_guide import make_latent_guide
from components.assets.perception import train_perception
from components.assets.renders import GENERATOR, Range, Renders, renders
from components.device import torch_device
from components.workspace import Workspace
from synfer.classifiers.models import Network, load
from synfer.diffusion.backbone import Backbone, save_backbone
from synfer.diffusion.denoiser import Dropout, Perception
from synfer.diffusion.training import Schedule
from synfer.files import replace_folder

SEED = 0
GENERATOR_FACES = Range(24_000, GENERATOR, SEED, independent=0.55)
AUTOENCODER = Schedule(steps=6_800, learning_rate=1.5e-3, warmup=60, ema_decay=0.995, save_every=200)
PERCEPTION = Schedule(steps=8_000, learning_rate=2e-3, warmup=100, ema_decay=0.997, save_every=800)
DENOISER = Schedule(steps=10_500, learning_rate=6e-4, warmup=150, ema_decay=0.999, save_every=500)
SIDES = Schedule(steps=7_000, learning_rate=6e-4, warmup=100, ema_decay=0.998, save_every=350)
"""A second, shorter training on more one-sided faces: in the first, left and right AUs came to act, but on both sides alike."""
DENOISER_BATCH = 32
_WATCHED = 140


def train_assets(workspace: Workspace) -> Iterator[Path]:
    """Train everything that is missing, on a GPU where there is one; yields each finished folder."""
    work, assets = workspace.artifacts / "assets", workspace.root / "assets"
    make_fer_models(work, assets / "fer", seed=SEED)
    yield assets / "fer"
    yield make_tiny_sd(work, assets)


def make_tiny_sd(work: Path, assets: Path) -> Path:
    """Train tiny-sd into `assets/tiny-sd`, from the checkpoints under `work` if there are any."""
    faces = renders(work / "renders" / "generator", GENERATOR_FACES)
    guide = load(assets / "fer" / "guide").module
    backbone = untrained_generator(_autoencoder(work, faces, guide), seed=SEED, tokenizer=work / "tokenizer")
    backbone.vae.requires_grad_(False)
    for module in (backbone.unet, backbone.vae, backbone.text_encoder):
        module.to(torch_device("auto"))
    _train(backbone, faces, guide, work)
    temporary = work / ".tiny-sd.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    save_backbone(backbone.requires_grad_(False), temporary, dtype=torch.float16)
    make_latent_guide(temporary, faces, GENERATOR_FACES, work=work, seed=SEED)
    schedules = {"autoencoder": AUTOENCODER, "perception": PERCEPTION, "denoiser": DENOISER, "sides": SIDES}
    write_card(temporary, measure(temporary, assets / "fer"), faces=GENERATOR_FACES, schedules=schedules)
    return replace_folder(temporary, assets / "tiny-sd")


def _autoencoder(work: Path, faces: Renders, guide: Network) -> AutoencoderKL:
    folder = work / "vae"
    if not folder.is_dir():
        vae = train_autoencoder(faces, guide, schedule=AUTOENCODER, checkpoint=work / "vae-checkpoint", seed=SEED, sheets=work / "sheets")
        temporary = work / ".vae.tmp"
        vae.save_pretrained(temporary)
        replace_folder(temporary, folder)
    return AutoencoderKL.from_pretrained(folder)


def _train(backbone: Backbone, faces: Renders, guide: Network, work: Path) -> None:
    def look(step: int) -> None:
        agreement = watch(backbone, guide, folder=work / "sheets" / f"generator-{step:05d}", images=_WATCHED, seed=SEED)
        print(f"\nstep {step}: the guide agrees with {agreement:.2f} of {_WATCHED} faces", flush=True)

    data = encode_faces(backbone, faces, work)
    perception = train_perception(
        data.latents, data.classes, data.aus, schedule=PERCEPTION, checkpoint=work / "perception-checkpoint", seed=SEED
    )
    for seed, faces_seen, schedule, name in (
        (SEED, data, DENOISER, "generator-checkpoint"),
        (SEED + 1, more_one_sided(data), SIDES, "sides-checkpoint"),
    ):
        train_generator(
            backbone, faces_seen, schedule=schedule, batch_size=DENOISER_BATCH, dropout=Dropout(), checkpoint=work / name, seed=seed,
            perception=Perception(perception.features), on_checkpoint=look,
        )  # fmt: skip
