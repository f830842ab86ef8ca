"""Supervised training on the one loop: soft labels, light augmentation, MixUp, the best epoch on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from sklearn.metrics import recall_score
from torch.nn import functional as F

from synfer.classifiers.augment import jitter, mirror, mix_up, random_operations
from synfer.classifiers.examples import Examples, ExamplesError, check_class_probabilities
from synfer.classifiers.loop import History, Schedule, run_loop
from synfer.classifiers.models import Network
from synfer.classifiers.predict import predict, predict_aus
from synfer.classifiers.sampling import EpochRows
from synfer.pixels import to_tensor
from synfer.vocabulary import flip_order


@dataclass(frozen=True)
class Objective:
    """What a training aims at: loss a row, targets of the mirrored face, and the score on val that picks the epoch."""

    loss: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]  # (outputs, targets, label smoothing) -> (N,)
    mirror: Callable[[torch.Tensor], torch.Tensor]
    score: Callable[[Network, Examples, int, torch.device], dict[str, float]]  # the first entry is the one to maximise


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Cross-entropy (N,) against class probabilities (N, K)."""
    return F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)


def intensity_loss(outputs: torch.Tensor, targets: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Squared error (N,) of outputs against intensities, over the AUs that are known (not NaN); `spread` (K,) is each AU's unit."""
    known = ~targets.isnan()
    wanted = torch.where(known, targets, outputs.detach())
    distance = ((outputs - wanted) / spread).square()
    return distance.sum(1) / known.sum(1).clamp(min=1)


def score_classes(model: Network, val: Examples, batch_size: int, device: torch.device) -> dict[str, float]:
    """UAR, accuracy and NLL against the most probable class of each target."""
    probabilities = predict(model, val.images, batch_size=batch_size, device=device)
    truth, guess = val.targets.argmax(1), probabilities.argmax(1)
    likelihood = np.clip((probabilities * val.targets).sum(1), 1e-12, 1.0)
    uar = float(recall_score(truth, guess, average="macro", zero_division=0.0, labels=np.unique(truth)))
    return {"val_uar": uar, "val_accuracy": float((truth == guess).mean()), "val_nll": float(-np.log(likelihood).mean())}


def score_aus(model: Network, val: Examples, batch_size: int, device: torch.device) -> dict[str, float]:
    """Mean Pearson correlation over the AUs that vary on val, and mean absolute error in intensity steps."""
    found = predict_aus(model, val.images, batch_size=batch_size, device=device)
    varying = [au for au, known in enumerate(val.targets.T) if len(np.unique(known[~np.isnan(known)])) > 1]
    correlations = [_correlation(found[:, au], val.targets[:, au]) for au in varying]
    return {"val_r": float(np.mean(correlations)), "val_mae": float(np.nanmean(np.abs(found - val.targets)))}


def _correlation(found: np.ndarray, wanted: np.ndarray) -> float:
    known = ~np.isnan(wanted)
    deviation = found[known].std()
    return float(np.corrcoef(found[known], wanted[known])[0, 1]) if deviation > 0 else 0.0  # a constant guess knows nothing


EXPRESSIONS = Objective(soft_cross_entropy, lambda targets: targets, score_classes)


def action_units(codes: Sequence[str], spread: np.ndarray | None = None) -> Objective:
    """Intensities of the AUs `codes` (K), which the model's outputs follow in steps of 0..5; mirroring swaps left and right.

    `spread` (K,) is the standard deviation of each AU over the training set; one that never varies (0, or NaN where none is known) counts
    in plain steps. An AU is absent from most faces: an absolute error would
    aim at the median, which is 0, and without the spread the rare AUs would hardly weigh. The outputs are steps and not shares of 5, for
    then they vary about as much as a fresh head moves in a step of AdamW; at a fifth of it the head drowns what there is to learn.
    """
    order = torch.from_numpy(flip_order(codes))
    unit = torch.ones(len(codes)) if spread is None else torch.from_numpy(np.where(spread > 0, spread, 1.0).astype(np.float32))

    def loss(outputs: torch.Tensor, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        return intensity_loss(outputs, targets, unit.to(outputs.device))

    return Objective(loss, lambda targets: targets[:, order.to(targets.device)], score_aus)


def fit(
    model: Network,
    train: Examples,
    val: Examples,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    label_smoothing: float = 0.0,
    augmentation: float = 1.0,
    seed: int = 0,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    objective: Objective = EXPRESSIONS,
    warmup: float = 0.2,
    patience: int = 0,
    precision: str = "no",
    mixup: float = 0.0,
    randaugment: int = 0,
    draw: EpochRows | None = None,
    checkpoint: Path | None = None,
) -> History:
    """Train `model` in place and leave it with the averaged weights of the epoch that scored best on val; returns one dict an epoch.

    `augmentation` is the strength of the jitter; mirroring always happens. `mixup` is the alpha of MixUp (Zhang et al. 2018, 0: none),
    `randaugment` the magnitude of two random operations an image (Cubuk et al. 2020, 0: none, 9 is usual). `draw` says which rows an epoch
    sees, by default each one once. `warmup`, `patience`, `precision` and `checkpoint` are those of `loop.run_loop`: with a checkpoint
    folder an interrupted training goes on. The same seed gives the same weights on the same machine. Raises ExamplesError if the targets do
    not fit the model's outputs, LoopError on a schedule or checkpoint that cannot be followed.
    """
    _check(model, train, val, objective)
    if mixup and objective is not EXPRESSIONS:
        raise ExamplesError("MixUp is for class probabilities; intensities that are partly unknown cannot be mixed")
    device = torch.device(device)
    schedule = Schedule(epochs, batch_size, learning_rate, weight_decay, warmup, patience, precision)

    def loss(rows: np.ndarray, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        batch = train.take(rows)
        parts = to_tensor(random_operations(batch.images, randaugment)), torch.from_numpy(batch.targets), torch.from_numpy(batch.weights)
        images, targets, weights = (part.to(device) for part in parts)
        images = jitter(images, generator, strength=augmentation)
        images, targets = mirror(images, targets, objective.mirror(targets), generator)
        if mixup:
            images, targets, weights = mix_up(images, targets, weights, alpha=mixup)
        losses = objective.loss(model(images).float(), targets, label_smoothing)
        return (losses * weights).sum() / weights.sum().clamp(min=1e-6), {}

    return run_loop(
        model, draw.rows if draw is not None else len(train), schedule, loss=loss, seed=seed, device=device, checkpoint=checkpoint,
        score=lambda averaged: objective.score(cast(Network, averaged), val, batch_size, device), draw=draw, on_epoch=on_epoch,
        title=model.architecture,
    )  # fmt: skip


def _check(model: Network, train: Examples, val: Examples, objective: Objective) -> None:
    for name, part in (("training", train), ("validation", val)):
        if len(part) == 0:
            raise ExamplesError(f"there are no {name} examples")
        if part.targets.shape != (len(part), model.outputs):
            raise ExamplesError(f"{name} targets are {part.targets.shape}, the model has {model.outputs} outputs")
        if objective is EXPRESSIONS:
            check_class_probabilities(part, name)
