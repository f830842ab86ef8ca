"""Stage generator: the diffusion backbone that draws the faces, as it is or fine-tuned on the corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from components.device import torch_device
from components.fer_models import people
from components.record import Record
from components.tracking import log_metrics
from synfer.config import Common
from synfer.config import Generator as Section
from synfer.diffusion.autoencoder import batch_rows, reconstruct
from synfer.diffusion.backbone import Backbone, backbone_sha256, copy_backbone, load_backbone, save_backbone
from synfer.diffusion.denoiser import Dropout, denoising_loss
from synfer.diffusion.lora import add_lora, merge_lora
from synfer.diffusion.training import Schedule, Training
from synfer.faces.sheet import labelled_sheet
from synfer.files import write_json
from synfer.images import load_images
from synfer.manifest import read_manifest, stack
from synfer.metrics.roles import Role, compact_identities, expand_identities
from synfer.pixels import to_tensor
from synfer.seeding import derive_seed

ROLE, CARD = "generator.json", "card.json"
_ENCODE_BATCH = 64
_SHOWN = 14


def run(section: Section, common: Common, *, development: Path, fer_models: Path, out: Path) -> None:
    """Write the backbone to `out/backbone`: unchanged, or its U-Net and AU adapter fine-tuned on the training split."""
    source, target = Path(section.backbone), out / "backbone"
    if section.adapt == "none":
        load_backbone(source)  # a missing part is told here, not an hour later
        copy_backbone(source, target)
    else:
        device = torch_device(common.device)
        backbone = load_backbone(source, device=device)
        fine_tune(section, common, backbone, development, checkpoint=out / "checkpoint")
        save_backbone(backbone, target)
    write_json(out / ROLE, _role(section, common, development, target))
    _record(section, common, development, target, out)


def read_generator_role(generator: Path) -> Role:
    """Hash of the generator's weights and the people it has seen."""
    role = json.loads((generator / ROLE).read_text(encoding="utf-8"))
    return Role(role["sha256"], expand_identities(role["identities"]))


def _role(section: Section, common: Common, development: Path, target: Path) -> dict[str, object]:
    """Whom the generator has seen: the people on the backbone's card, where it has one, and those it was fine-tuned on here."""
    card = Path(section.backbone) / CARD
    seen = expand_identities(json.loads(card.read_text(encoding="utf-8"))["trained_on"]["identities"]) if card.is_file() else frozenset()
    if section.adapt != "none":
        seen |= frozenset(people(read_manifest(development).query("split == 'train'")))
    return {"sha256": backbone_sha256(target), "identities": compact_identities(seen)}


def fine_tune(section: Section, common: Common, backbone: Backbone, development: Path, *, checkpoint: Path) -> None:
    """Fine-tune U-Net (in full or by LoRA) and AU adapter in place on the training split, resuming from `checkpoint`."""
    backbone.requires_grad_(False)
    parameters = add_lora(backbone.unet, rank=section.lora_rank) if section.adapt == "lora" else list(backbone.unet.parameters())
    for parameter in (*parameters, *backbone.au_adapter.parameters()):
        parameter.requires_grad_(True)
    latents, token_ids, aus = _training_set(backbone, common, development)
    dropout = Dropout(caption=section.caption_dropout, aus=section.au_dropout)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rows = batch_rows(len(latents), batch_size=section.batch_size, step=step, seed=common.seed)
        generator = torch.Generator().manual_seed(derive_seed("fine-tune", common.seed, step))
        value = denoising_loss(
            backbone, latents[rows].to(backbone.device), token_ids[rows], aus[rows].clone(),
            generator=generator, dropout=dropout, min_snr_gamma=section.min_snr_gamma,
        )  # fmt: skip
        return value, {}

    schedule = Schedule(section.steps, section.learning_rate, warmup=max(section.steps // 20, 1))
    training = Training([backbone.unet.train()], schedule, checkpoint=checkpoint)
    training.run(loss, title="generator", on_step=lambda step, shown: log_metrics({"generator/loss": shown["loss"]}, step=step))
    training.ema.copy_to(training.parameters)
    if section.adapt == "lora":
        merge_lora(backbone.unet)
    backbone.requires_grad_(False).eval()


@torch.no_grad()
def _training_set(backbone: Backbone, common: Common, development: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, token ids and AUs of the training split."""
    rows = read_manifest(development).query("split == 'train'")
    images = load_images(development, rows["sample_id"].tolist(), size=backbone.image_size)
    starts = range(0, len(rows), _ENCODE_BATCH)
    latents = torch.cat([backbone.encode(to_tensor(images[start : start + _ENCODE_BATCH])).cpu() for start in starts])
    return latents, backbone.tokenize(rows["caption"].tolist()), torch.from_numpy(stack(rows, "aus")).float()


def _record(section: Section, common: Common, development: Path, target: Path, out: Path) -> None:
    """Reconstructions of real faces: what the autoencoder keeps bounds what any prompt can show."""
    backbone = load_backbone(target, device=torch_device(common.device))
    rows = read_manifest(development).query("split == 'val'").head(_SHOWN)
    images = load_images(development, rows["sample_id"].tolist(), size=backbone.image_size)
    again = reconstruct(backbone.vae, images)
    record = Record(out)
    record.metric("generator/parameters", sum(parameter.numel() for parameter in backbone.unet.parameters()))
    error = (torch.from_numpy(images).float() - torch.from_numpy(again).float()).abs().mean() / 255
    record.metric("generator/reconstruction_l1", float(error), n=len(rows))
    sheet = labelled_sheet(np.concatenate([images, again]), columns=len(rows), row_titles=["real", "reconstructed"])
    caption = f"Backbone {Path(section.backbone).name} ({section.adapt}), sha256 {backbone_sha256(target)[:12]}."
    record.figure("reconstructions", sheet, title="What the autoencoder keeps", caption=caption)
    record.save()
