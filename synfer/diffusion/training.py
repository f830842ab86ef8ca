"""One training loop for autoencoder, generator and adapters: accelerate for device and precision, EMA, exact resume after a kill.

A batch is a function of (seed, step) alone, so a resumed training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm import tqdm

from synfer.files import replace_folder

Loss = Callable[[int], tuple[Tensor, dict[str, float]]]
"""Loss of optimiser step i (a scalar to differentiate) and what to show of it."""


@dataclass(frozen=True)
class Schedule:
    """Length and pace of a training."""

    steps: int
    learning_rate: float
    warmup: int = 100
    ema_decay: float = 0.999
    save_every: int = 200
    mixed_precision: str = "no"
    gradient_accumulation: int = 1


class Training:
    """Modules under training with their optimiser, averaged weights and place in the schedule.

    `modules` are trained together; parameters that must stay frozen have `requires_grad=False` before they come here.
    """

    def __init__(self, modules: Iterable[nn.Module], schedule: Schedule, *, checkpoint: Path) -> None:
        self.schedule, self.checkpoint, self.step = schedule, checkpoint, 0
        self.accelerator = Accelerator(mixed_precision=schedule.mixed_precision, gradient_accumulation_steps=schedule.gradient_accumulation)
        self.bundle = nn.ModuleList(modules)
        self.parameters = [parameter for parameter in self.bundle.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(self.parameters, lr=schedule.learning_rate, weight_decay=0.01, betas=(0.9, 0.99))
        pace = get_cosine_schedule_with_warmup(optimizer, schedule.warmup, schedule.steps)
        self.bundle, self.optimizer, self.pace = self.accelerator.prepare(self.bundle, optimizer, pace)
        self.ema = EMAModel(self.parameters, decay=schedule.ema_decay, use_ema_warmup=True, power=0.75, foreach=True)
        self.accelerator.register_for_checkpointing(self.ema)

    def run(self, loss: Loss, *, title: str, on_step: Callable[[int, dict[str, float]], None] | None = None) -> None:
        """Train to the end of the schedule, from the checkpoint if there is one; `on_step` is called after every step."""
        self._resume()
        with tqdm(total=self.schedule.steps, initial=self.step, desc=title, unit="step", smoothing=0.05) as bar:
            while self.step < self.schedule.steps:
                shown = self._advance(loss)
                self.step += 1
                bar.update()
                if self.step % 10 == 0:
                    bar.set_postfix({name: f"{value:.4f}" for name, value in shown.items()})
                if self.step % self.schedule.save_every == 0 or self.step == self.schedule.steps:
                    self.save()
                if on_step is not None:
                    on_step(self.step, shown)

    def _advance(self, loss: Loss) -> dict[str, float]:
        for part in range(self.schedule.gradient_accumulation):
            with self.accelerator.accumulate(self.bundle), self.accelerator.autocast():
                value, shown = loss(self.step * self.schedule.gradient_accumulation + part)
            self.accelerator.backward(value)
        self.accelerator.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.pace.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.parameters)
        return {"loss": value.item(), **shown}

    def averaged(self) -> _Averaged:
        """Context in which the modules hold their averaged weights."""
        return _Averaged(self.ema, self.parameters)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        temporary = self.checkpoint.with_name(f".{self.checkpoint.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        self.accelerator.save_state(str(temporary))
        (temporary / "step.json").write_text(json.dumps({"step": self.step, "steps": self.schedule.steps}), encoding="utf-8")
        replace_folder(temporary, self.checkpoint)

    def _resume(self) -> None:
        if not self.checkpoint.is_dir():
            return
        self.accelerator.load_state(str(self.checkpoint))
        self.step = json.loads((self.checkpoint / "step.json").read_text(encoding="utf-8"))["step"]
        self.ema.to(self.accelerator.device)


class _Averaged:
    def __init__(self, ema: EMAModel, parameters: list[nn.Parameter]) -> None:
        self.ema, self.parameters = ema, parameters

    def __enter__(self) -> None:
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)

    def __exit__(self, *_: object) -> None:
        self.ema.restore(self.parameters)
