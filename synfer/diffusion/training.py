"""One training loop for autoencoder, generator and adapters: accelerate for device and precision, EMA, exact resume after a kill.

A batch is a function of (seed, step) alone, so a resumed training sees what an uninterrupted one would have seen. A checkpoint holds what
trains and nothing else: of a U-Net under LoRA it is a few megabytes, not gigabytes.

Under `accelerate launch` every process calls `loss` with step numbers of its own and the gradients are averaged, so that n processes train
as one with a batch n times as large would.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from synfer.errors import SynferError
from synfer.files import replace_folder

Loss = Callable[[int], tuple[Tensor, dict[str, float]]]
"""Loss of batch i (a scalar to differentiate) and what to show of it; with accumulation an optimiser step takes several batches."""

_OF_A_GROUP = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # environment
WEIGHTS, PROGRESS = "model.safetensors", "step.json"


class TrainingError(SynferError):
    """A precision that the device lacks, or a checkpoint of another training; the message says which."""


@dataclass(frozen=True)
class Schedule:
    """Length and pace of a training; `steps`, `warmup` and `save_every` count optimiser steps.

    `mixed_precision` is no, fp16 (CUDA only) or bf16: the precision of the forward pass; weights that train stay in float32.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    ema_decay: float = 0.999
    save_every: int = 200
    mixed_precision: str = "no"
    gradient_accumulation: int = 1


class Training:
    """Modules under training with their optimiser, averaged weights and place in the schedule.

    `modules` are trained together on their device; parameters that must stay frozen have `requires_grad=False` before they come here.
    `history` is for the caller: what is appended to it is saved and resumed with the rest.
    """

    def __init__(self, modules: Iterable[nn.Module], schedule: Schedule, *, checkpoint: Path) -> None:
        self.schedule, self.checkpoint, self.step = schedule, checkpoint, 0
        self.history: list[dict[str, float]] = []
        self.bundle = nn.ModuleList(modules)
        self.parameters = [parameter for parameter in self.bundle.parameters() if parameter.requires_grad]
        self.device = self.parameters[0].device
        self.accelerator = _accelerator(schedule, self.device)
        optimizer = torch.optim.AdamW(self.parameters, lr=schedule.learning_rate, weight_decay=0.01, betas=(0.9, 0.99))
        pace = get_cosine_schedule_with_warmup(optimizer, schedule.warmup, schedule.steps)
        self.optimizer, self.pace = self.accelerator.prepare(optimizer, pace)
        self.ema = EMAModel(self.parameters, decay=schedule.ema_decay, use_ema_warmup=True, power=0.75, foreach=True)
        self.accelerator.register_for_checkpointing(self.ema)

    def run(self, loss: Loss, *, title: str, on_step: Callable[[int, dict[str, float]], None] | None = None) -> None:
        """Train to the end of the schedule, from the checkpoint if there is one; `on_step` is called after every step."""
        self.resume()
        shown_here = self.accelerator.is_local_main_process
        with tqdm(total=self.schedule.steps, initial=self.step, desc=title, unit="step", smoothing=0.05, disable=not shown_here) as bar:
            while self.step < self.schedule.steps:
                shown = self._advance(loss)
                self.step += 1
                bar.update()
                if self.step % 10 == 0:
                    bar.set_postfix({name: f"{value:.4g}" for name, value in shown.items()})
                if on_step is not None:
                    on_step(self.step, shown)
                if self.step % self.schedule.save_every == 0 or self.step == self.schedule.steps:
                    self.save()

    def averaged(self) -> _Averaged:
        """Context in which the modules hold their averaged weights."""
        return _Averaged(self.ema, self.parameters)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        temporary = self.checkpoint.with_name(f".{self.checkpoint.name}.tmp")
        if self.accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(temporary))  # optimiser, schedule, gradient scaler, EMA, and the random state of every process
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            save_file({name: value.detach().cpu().contiguous() for name, value in self._trained().items()}, temporary / WEIGHTS)
            progress = {"step": self.step, "steps": self.schedule.steps, "history": self.history}
            (temporary / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
            replace_folder(temporary, self.checkpoint)
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Go back to the checkpoint, if there is one; raises TrainingError if it is not one of this training."""
        if not self.checkpoint.is_dir():
            return
        weights, trained = load_file(self.checkpoint / WEIGHTS), self._trained()
        for name, value in trained.items():
            if name not in weights or weights[name].shape != value.shape:
                found = tuple(weights[name].shape) if name in weights else "nothing"
                wanted = f"{name} should be {tuple(value.shape)}, found {found}"
                raise TrainingError(f"checkpoint {self.checkpoint} is of another training: {wanted}")
        with torch.no_grad():
            for name, value in trained.items():
                value.copy_(weights[name])
        self.accelerator.load_state(str(self.checkpoint))
        self.ema.to(self.device)
        progress = json.loads((self.checkpoint / PROGRESS).read_text(encoding="utf-8"))
        self.step, self.history[:] = progress["step"], progress.get("history", [])

    def _advance(self, loss: Loss) -> dict[str, float]:
        """One optimiser step over `gradient_accumulation` batches; returns the means of what they show."""
        parts = []
        for part in range(self.schedule.gradient_accumulation):
            batch = self.step * self.schedule.gradient_accumulation + part
            with self.accelerator.accumulate():
                with self.accelerator.autocast():
                    value, shown = loss(batch * self.accelerator.num_processes + self.accelerator.process_index)
                self.accelerator.backward(value)
            parts.append({"loss": value.item(), **shown})
        self._average_gradients()
        self.accelerator.clip_grad_norm_(self.parameters, 1.0)
        pace = self.pace.get_last_lr()[0]
        self.optimizer.step()
        self.pace.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.parameters)
        return {**{name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}, "learning_rate": pace}

    def _average_gradients(self) -> None:
        """Over processes; by hand, because the losses call the modules and not a wrapper around them."""
        if self.accelerator.num_processes > 1:
            for parameter in self.parameters:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.accelerator.reduce(gradient, reduction="mean")

    def _trained(self) -> dict[str, Tensor]:
        """Parameters under training, and all persistent buffers, by name."""
        frozen = {name for name, parameter in self.bundle.named_parameters() if not parameter.requires_grad}
        return {name: value for name, value in self.bundle.state_dict(keep_vars=True).items() if name not in frozen}


def leave_group() -> None:
    """From here on this process is alone: what it trains next, it trains without those of `accelerate launch`, which may end."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
    for name in _OF_A_GROUP:
        os.environ.pop(name, None)


class _Averaged:
    def __init__(self, ema: EMAModel, parameters: list[nn.Parameter]) -> None:
        self.ema, self.parameters = ema, parameters

    def __enter__(self) -> None:
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)

    def __exit__(self, *_: object) -> None:
        self.ema.restore(self.parameters)


def _accelerator(schedule: Schedule, device: torch.device) -> Accelerator:
    if schedule.mixed_precision == "fp16" and device.type == "cpu":
        raise TrainingError("mixed precision fp16 needs a GPU; on the CPU there are no and bf16")
    AcceleratorState._reset_state()  # accelerate keeps one precision a process; a pipeline trains several models in one
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=schedule.mixed_precision,
        gradient_accumulation_steps=schedule.gradient_accumulation,
        dataloader_config=DataLoaderConfiguration(split_batches=True),  # the schedule counts optimiser steps on any number of processes
    )
