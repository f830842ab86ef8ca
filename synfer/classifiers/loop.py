"""The one training loop of classifiers, self-supervised encoders and image-text models.

AdamW, cosine with warm-up, averaged weights, mixed precision, the best epoch on val, early stop, and exact resume after a kill: an epoch is
a function of what the checkpoint holds, so a resumed training ends in the weights of one that was never interrupted.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from synfer.classifiers.models import to_device
from synfer.errors import SynferError
from synfer.files import whole_folder

WEIGHTS, PROGRESS = "training.safetensors", "progress.json"
PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MAX_GRADIENT = 5.0

History = list[dict[str, float]]
Loss = Callable[[np.ndarray, torch.Generator], tuple[Tensor, dict[str, float]]]
"""Row numbers (B,) of a batch and the loop's generator -> the loss (a scalar to differentiate) and what else to keep of the batch."""

Score = Callable[[nn.Module], dict[str, float]]
"""The module with averaged weights -> scores on val, of which the first one is maximised."""

Draw = Callable[[torch.Generator], np.ndarray]
"""The loop's generator -> row numbers of one epoch, in the order in which they are seen."""


class LoopError(SynferError):
    """A schedule that cannot be kept, a precision that the device lacks, or a checkpoint of another training; the message says which."""


@dataclass(frozen=True)
class Schedule:
    """Length and pace of a training.

    `warmup` is the share of the steps in which the learning rate rises in a straight line to `learning_rate`; then it falls by a cosine
    to 0. `patience` epochs without a better val score end the training (0: never). `precision` is no, bf16 or fp16 (CUDA only): the
    forward pass alone, weights stay in float32. The averaged weights look back over about the share `ema` of the training.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    patience: int = 0
    precision: str = "no"
    ema: float = 0.04

    def steps(self, rows: int) -> int:
        """Optimiser steps of the whole training where an epoch has `rows` rows."""
        return self.epochs * self.batches(rows)

    def batches(self, rows: int) -> int:
        """Batches of an epoch of `rows` rows; they are of about equal size, none larger than `batch_size`."""
        return -(-rows // self.batch_size)


def run_loop(
    module: nn.Module,
    rows: int,
    schedule: Schedule,
    *,
    loss: Loss,
    score: Score | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    checkpoint: Path | None = None,
    draw: Draw | None = None,
    after_step: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    title: str = "training",
) -> History:
    """Train `module` in place; leaves it in eval mode with the averaged weights of the best epoch (without `score`, of the last one).

    An epoch sees `rows` rows: a permutation of them, or what `draw` gives. `after_step` is called with the steps done and their whole
    number before the weights are averaged, for momentum networks. `on_epoch` gets the number of the epoch, from 0, and its entry of the
    history: the mean loss, the means of what `loss` shows, and the scores; after a resume it first gets the epochs of the checkpoint.

    With `checkpoint`, a folder written after every epoch, an interrupted training goes on, and a finished one only gives back its result.
    What draws random numbers must use the generator or torch's own, which are part of the checkpoint. Returns one dict an epoch. Raises
    LoopError on a schedule without a step, a precision that the device lacks, a loss that is not finite, or another training's checkpoint.
    """
    device = torch.device(device)
    check_precision(schedule.precision, device)
    if schedule.steps(rows) < 1:
        raise LoopError(f"{schedule.epochs} epochs of {rows} rows are no training")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)  # of dropout and torchvision's transforms; everything else draws from the training's own generator
        training = _Training(module, rows, schedule, seed=seed, device=device)
        if checkpoint is not None and (checkpoint / PROGRESS).is_file():
            training.resume(checkpoint)
        for epoch, metrics in enumerate(training.history):
            _tell(on_epoch, epoch, metrics)
        total = schedule.batches(rows)
        with tqdm(total=schedule.steps(rows), initial=len(training.history) * total, desc=title, unit="step") as bar:
            while not training.finished:
                metrics = training.epoch(loss, draw, after_step, bar)
                training.keep({**metrics, **(score(training.averaged) if score is not None else {})}, list(metrics))
                if checkpoint is not None:
                    training.save(checkpoint)
                _tell(on_epoch, len(training.history) - 1, training.history[-1])
                bar.set_postfix({name: f"{value:.3f}" for name, value in training.history[-1].items()})
    module.load_state_dict(training.best)
    module.eval()
    return training.history


def check_precision(precision: str, device: torch.device) -> None:
    """Raise LoopError if the precision is unknown or the device does not have it."""
    if precision not in PRECISIONS:
        raise LoopError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if precision == "fp16" and device.type == "cpu":
        raise LoopError("precision fp16 needs a GPU; on the CPU there are no and bf16")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise LoopError(f"{torch.cuda.get_device_name(device)} has no bf16; it has no and fp16")


def pace(step: int, steps: int, *, warmup: float) -> float:
    """Share of the full learning rate at a step 0..steps-1: up in a line over the share `warmup` of the steps, down by a cosine."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


class _Training:
    """State of one training: module, averaged weights, optimiser, pace, generator, history and the best weights so far."""

    def __init__(self, module: nn.Module, rows: int, schedule: Schedule, *, seed: int, device: torch.device) -> None:
        self.module, self.rows, self.schedule, self.seed, self.device = to_device(module, device), rows, schedule, seed, device
        self.steps, self.step = schedule.steps(rows), 0
        decay = 1 - 1 / max(2.0, schedule.ema * self.steps)
        self.average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.optimizer = torch.optim.AdamW(_groups(module, schedule.weight_decay), lr=schedule.learning_rate)
        self.pace = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: pace(step, self.steps, warmup=schedule.warmup))
        self.scaler = torch.amp.GradScaler(device.type, enabled=schedule.precision == "fp16")
        self.generator = torch.Generator().manual_seed(seed)
        self.history: History = []
        self.scores: list[float] = []
        self.best = module.state_dict()

    @property
    def averaged(self) -> nn.Module:
        """The module with averaged weights."""
        return self.average.module

    @property
    def finished(self) -> bool:
        """Whether every epoch is done, or the last `patience` ones brought no better score."""
        waited = len(self.scores) - 1 - int(np.argmax(self.scores)) if self.scores else 0
        return len(self.history) == self.schedule.epochs or 0 < self.schedule.patience <= waited

    def epoch(self, loss: Loss, draw: Draw | None, after_step: Callable[[int, int], None] | None, bar: tqdm) -> dict[str, float]:
        """One pass; returns the means over its batches."""
        self.module.train()
        order = draw(self.generator) if draw is not None else torch.randperm(self.rows, generator=self.generator).numpy()
        if len(order) != self.rows:
            raise LoopError(f"an epoch should have {self.rows} rows, {len(order)} were drawn")
        losses, shown = [], []
        for batch in np.array_split(order, self.schedule.batches(self.rows)):
            value, others = self.advance(batch, loss)
            self.step += 1
            if after_step is not None:
                after_step(self.step, self.steps)
            self.average.update_parameters(self.module)
            losses.append(value)
            shown.append(others)
            bar.update()
        mean = float(torch.stack(losses).mean())
        if not np.isfinite(mean):
            raise LoopError(f"the loss of epoch {len(self.history) + 1} is {mean}; a lower learning rate or more precision may help")
        return {"loss": mean, **{name: float(np.mean([part[name] for part in shown])) for name in shown[0]}}

    def advance(self, batch: np.ndarray, loss: Loss) -> tuple[Tensor, dict[str, float]]:
        """One optimiser step; returns the loss and what else to show."""
        precision = self.schedule.precision
        with torch.autocast(self.device.type, PRECISIONS[precision], enabled=precision != "no"):
            value, shown = loss(batch, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(value).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.module.parameters(), MAX_GRADIENT)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.pace.step()
        return value.detach().float(), shown

    def keep(self, metrics: dict[str, float], training: list[str]) -> None:
        """Append an epoch to the history; the averaged weights are kept where its first score is the best one, or there is none."""
        self.history.append(metrics)
        scored = [value for name, value in metrics.items() if name not in training]
        if scored:
            self.scores.append(scored[0])
        if not scored or int(np.argmax(self.scores)) == len(self.scores) - 1:
            self.best = copy.deepcopy(self.averaged.state_dict())

    def save(self, folder: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        optimizer = self.optimizer.state_dict()
        tensors = {"generator": self.generator.get_state(), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["cuda"] = torch.cuda.get_rng_state(self.device)
        parts = {"module": self.module.state_dict(), "average": self.average.state_dict(), "best": self.best}
        parts |= {f"optimizer/{index}": values for index, values in optimizer["state"].items()}
        tensors |= {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        progress = {
            "training": self._identity(), "step": self.step, "history": self.history, "scores": self.scores, "pace": _plain(self.pace),
            "groups": optimizer["param_groups"], "scaler": self.scaler.state_dict(),
        }  # fmt: skip
        with whole_folder(folder) as temporary:
            save_file({name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()},
                      temporary / WEIGHTS)  # fmt: skip
            (temporary / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")

    def resume(self, folder: Path) -> None:
        """Go back to a checkpoint; raises LoopError if it is one of another training."""
        progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        self._check(progress["training"], tensors, folder)
        self.module.load_state_dict(_part(tensors, "module"))
        self.average.load_state_dict(_part(tensors, "average"))
        self.best = {name: value.to(self.device) for name, value in _part(tensors, "best").items()}
        self._resume_optimizer(progress["groups"], tensors)
        self.pace.load_state_dict({**self.pace.state_dict(), **progress["pace"]})
        self.scaler.load_state_dict(progress["scaler"])
        self.generator.set_state(tensors["generator"])
        torch.set_rng_state(tensors["torch"])
        if "cuda" in tensors:
            torch.cuda.set_rng_state(tensors["cuda"], self.device)
        self.step, self.history, self.scores = progress["step"], progress["history"], progress["scores"]

    def _resume_optimizer(self, groups: list[dict[str, Any]], tensors: dict[str, Tensor]) -> None:
        """Moments in the memory layout of their parameters, or the arithmetic would differ in the last bit."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        state = {}
        for index, parameter in enumerate(parameters):
            values = _part(tensors, f"optimizer/{index}")
            state[index] = {
                name: torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape and name != "step" else value
                for name, value in values.items()
            }  # fmt: skip
        groups = [{**group, "betas": tuple(group["betas"])} for group in groups]
        self.optimizer.load_state_dict({"state": {index: values for index, values in state.items() if values}, "param_groups": groups})

    def _identity(self) -> dict[str, Any]:
        return {**asdict(self.schedule), "rows": self.rows, "seed": self.seed}

    def _check(self, found: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> None:
        for name, wanted in self._identity().items():
            if found.get(name) != wanted:
                raise LoopError(f"checkpoint {folder} is of another training: {name} is {found.get(name)}, this one has {wanted}")
        saved = _part(tensors, "module")
        for name, value in self.module.state_dict().items():
            if name not in saved or saved[name].shape != value.shape:
                there = tuple(saved[name].shape) if name in saved else "nothing"
                raise LoopError(f"checkpoint {folder} is of another model: {name} should be {tuple(value.shape)}, found {there}")


def _tell(on_epoch: Callable[[int, dict[str, float]], None] | None, epoch: int, metrics: dict[str, float]) -> None:
    if on_epoch is not None:
        on_epoch(epoch, metrics)


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def _plain(pace: torch.optim.lr_scheduler.LRScheduler) -> dict[str, Any]:
    """What moves of a schedule; its functions come from the settings."""
    return {name: value for name, value in pace.state_dict().items() if name in ("last_epoch", "_step_count", "_last_lr")}


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups; norms and biases are not decayed."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
