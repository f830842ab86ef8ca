"""Fine-tuning a backbone on the corpus' training split: adapter, LoRA or all of the U-Net, resumable at any step.

Nothing here grows with the corpus: latents lie in memory-mapped files (`latent_store`), and a checkpoint holds what trains. The finished
weights are put into the backbone as it was read, in full precision, so that a base that rested in half precision loses nothing.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from components.device import torch_device
from components.latent_store import LatentStore, store_latents
from components.looks import draw_probes, probe_faces, rate, write_image
from components.tracking import log_file, log_metrics
from synfer.classifiers.models import load
from synfer.config import Common
from synfer.config import Generator as Section
from synfer.diffusion.adaptation import load_trained_weights, lower_frozen, merge, set_trainable, trained_weights
from synfer.diffusion.autoencoder import batch_rows
from synfer.diffusion.backbone import Backbone, load_backbone, save_backbone
from synfer.diffusion.denoiser import Dropout, denoising_loss
from synfer.diffusion.lora import save_lora
from synfer.diffusion.training import Loss, Schedule, Training, leave_group
from synfer.seeding import derive_seed

History = list[dict[str, float]]
"""Points of the curves, each with its `step`: `loss` and `learning_rate` some hundred times, `guide_accuracy` at every look."""

STRIPS = "strips"
_PRECISIONS = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_POINTS = 400  # of a curve


def fine_tune(
    section: Section, common: Common, rows: pd.DataFrame, *, development: Path, fer_models: Path, work: Path, out: Path
) -> History:
    """Fine-tune `section.backbone` on the images `rows` of `development`; returns the history.

    Writes `out/backbone`, `out/lora` where there is one, and a sheet of faces a look to `out/figures`. `work` keeps what a killed call
    needs to go on: latents, checkpoint, and the first faces of every look (`strips`).
    """
    torch.manual_seed(derive_seed(common.seed, "fine-tune"))  # LoRA's first weights
    backbone = load_backbone(Path(section.backbone), device=torch_device(common.device))
    training = _training(section, backbone, checkpoint=work / "checkpoint")
    watch = _Watch(section, common, backbone, training, fer_models=fer_models, strips=work / STRIPS, sheets=out / "figures")
    with training.accelerator.main_process_first():
        store = store_latents(backbone, development, rows, mirrored=section.flips, store=work / "latents")
    if not training.checkpoint.is_dir():
        watch.look(0)
    training.run(_loss(section, common, backbone, store), title="generator", on_step=watch)
    training.ema.copy_to(training.parameters)
    if training.accelerator.is_main_process:
        _save(section, trained_weights(backbone), out)
    training.accelerator.wait_for_everyone()
    leave_group()
    return training.history


def _training(section: Section, backbone: Backbone, *, checkpoint: Path) -> Training:
    schedule = Schedule(
        section.steps, section.learning_rate, warmup=max(section.steps // 20, 1), mixed_precision=section.mixed_precision,
        gradient_accumulation=section.gradient_accumulation,
    )  # fmt: skip
    training = Training(_set_trainable(section, backbone), schedule, checkpoint=checkpoint)
    lower_frozen(backbone, _PRECISIONS[section.mixed_precision])
    if section.gradient_checkpointing:
        backbone.unet.enable_gradient_checkpointing()
    return training


def _set_trainable(section: Section, backbone: Backbone) -> list[torch.nn.Module]:
    return set_trainable(backbone, section.adapt, lora_rank=section.lora_rank, train_text_encoder=section.train_text_encoder)


def _loss(section: Section, common: Common, backbone: Backbone, store: LatentStore) -> Loss:
    """Loss of batch i, a function of (seed, i) alone."""
    dropout = Dropout(caption=section.caption_dropout, aus=section.au_dropout)

    def loss(batch: int) -> tuple[Tensor, dict[str, float]]:
        rows = batch_rows(len(store), batch_size=section.batch_size, step=batch, seed=common.seed)
        generator = torch.Generator().manual_seed(derive_seed("fine-tune", common.seed, batch))
        views = torch.randint(store.views, (len(rows),), generator=generator)
        latents, token_ids, aus = store.batch(rows, views)
        value = denoising_loss(
            backbone, latents.to(backbone.device), token_ids, aus, generator=generator, dropout=dropout, min_snr_gamma=section.min_snr_gamma
        )
        return value, {}

    return loss


class _Watch:
    """Called after every step: a point of the curves now and then, a look at drawn faces every `validate_every` steps and at the end."""

    def __init__(
        self, section: Section, common: Common, backbone: Backbone, training: Training, *, fer_models: Path, strips: Path, sheets: Path
    ) -> None:
        self.section, self.common, self.backbone, self.training = section, common, backbone, training
        self.strips, self.sheets = strips, sheets
        self.guide = load(fer_models / "guide", device=backbone.device) if section.validate_every else None
        self.probes = probe_faces(section.validation_images, common)
        self.log_every = max(1, section.steps // _POINTS)
        self.losses: list[float] = []

    def __call__(self, step: int, shown: dict[str, float]) -> None:
        self.losses.append(shown["loss"])
        if step % self.log_every == 0:
            self._note(step, {"loss": sum(self.losses) / len(self.losses), "learning_rate": shown["learning_rate"]})
            self.losses.clear()
        if self.section.validate_every and (step % self.section.validate_every == 0 or step == self.section.steps):
            self.look(step)

    def look(self, step: int) -> None:
        """Draw the probes with the averaged weights, keep their sheet, and note on how many the guide agrees."""
        if self.guide is None or not self.training.accelerator.is_main_process:
            return
        classes = self.common.expressions
        with self.training.averaged(), self.training.accelerator.autocast():
            images = draw_probes(self.backbone, self.probes, batch_size=self.section.batch_size)
        found = rate(images, self.probes, self.guide, self.common)
        write_image(self.strips / f"{step:06d}.png", found.strip(classes))
        log_file(write_image(self.sheets / f"look-{step:06d}.png", found.sheet(classes)), "looks")
        self._note(step, {"guide_accuracy": found.accuracy})

    def _note(self, step: int, values: dict[str, float]) -> None:
        self.training.history.append({"step": step, **values})
        if self.training.accelerator.is_main_process:
            log_metrics({f"generator/{name}": value for name, value in values.items()}, step=step)


def _save(section: Section, weights: dict[str, Tensor], out: Path) -> None:
    """The backbone as it was read, with the trained weights in it."""
    backbone = load_backbone(Path(section.backbone))
    _set_trainable(section, backbone)
    load_trained_weights(backbone, weights)
    if section.adapt == "lora":
        save_lora(out / "lora", unet=backbone.unet, text_encoder=backbone.text_encoder)
    save_backbone(merge(backbone), out / "backbone")
