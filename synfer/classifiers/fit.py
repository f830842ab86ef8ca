"""The training loop: AdamW, one-cycle schedule, light augmentation, averaged weights, the best epoch on the validation split."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from sklearn.metrics import recall_score
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from synfer.classifiers.augment import jitter, mirror
from synfer.classifiers.examples import Examples, ExamplesError
from synfer.classifiers.models import Network, to_device
from synfer.classifiers.predict import predict, predict_aus
from synfer.pixels import to_tensor
from synfer.vocabulary import flip_order

AVERAGED_SHARE = 0.04  # the averaged weights look back over about this share of the training


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


class _Training:
    """State of one training: model, averaged weights, optimiser and schedule."""

    def __init__(
        self, model: Network, train: Examples, *, epochs: int, batch_size: int, learning_rate: float, weight_decay: float, seed: int,
        device: torch.device, augmentation: float,
    ) -> None:  # fmt: skip
        steps = epochs * -(-len(train) // batch_size)
        self.model = to_device(model, device)
        self.train, self.batch_size, self.device, self.augmentation = train, batch_size, device, augmentation
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / max(2.0, AVERAGED_SHARE * steps)), use_buffers=True)
        self.optimizer = torch.optim.AdamW(_groups(model, weight_decay), lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, learning_rate, total_steps=steps, pct_start=0.2)
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def averaged(self) -> Network:
        """The model with averaged weights."""
        return cast(Network, self.average.module)

    def epoch(self, objective: Objective, label_smoothing: float) -> float:
        """One pass over the training examples; returns the mean loss."""
        self.model.train()
        order = torch.randperm(len(self.train), generator=self.generator).numpy()
        losses = [self.step(rows, objective, label_smoothing) for rows in np.array_split(order, -(-len(order) // self.batch_size))]
        return float(torch.stack(losses).mean())

    def step(self, rows: np.ndarray, objective: Objective, label_smoothing: float) -> torch.Tensor:
        """One update on these rows; returns the loss."""
        batch = self.train.take(rows)
        parts = to_tensor(batch.images), torch.from_numpy(batch.targets), torch.from_numpy(batch.weights)
        images, targets, weights = (part.to(self.device) for part in parts)
        images = jitter(images, self.generator, strength=self.augmentation)
        images, targets = mirror(images, targets, objective.mirror(targets), self.generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            outputs = self.model(images)
        loss = (objective.loss(outputs.float(), targets, label_smoothing) * weights).sum() / weights.sum().clamp(min=1e-6)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.model)
        return loss.detach()


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
) -> list[dict[str, float]]:
    """Train `model` in place and leave it with the averaged weights of the epoch that scored best on val; returns one dict an epoch.

    `augmentation` is the strength of the jitter; mirroring always happens.
    The same seed gives the same weights on the same machine. Raises ExamplesError if the targets do not fit the model's outputs.
    """
    _check(model, train, val)
    device = torch.device(device)
    history: list[dict[str, float]] = []
    best, weights = -float("inf"), model.state_dict()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), tqdm(total=epochs, desc=model.architecture) as bar:
        torch.manual_seed(seed)  # of dropout; everything else draws from the training's own generator
        rates = {"learning_rate": learning_rate, "weight_decay": weight_decay, "augmentation": augmentation}
        training = _Training(model, train, epochs=epochs, batch_size=batch_size, seed=seed, device=device, **rates)
        for epoch in range(epochs):
            loss = training.epoch(objective, label_smoothing)
            scores = objective.score(training.averaged, val, batch_size, device)
            history.append({"loss": loss, **scores})
            if (score := next(iter(scores.values()))) > best:
                best, weights = score, copy.deepcopy(training.averaged.state_dict())
            if on_epoch is not None:
                on_epoch(epoch, history[-1])
            bar.set_postfix({name: f"{value:.3f}" for name, value in history[-1].items()})
            bar.update()
    model.load_state_dict(weights)
    model.eval()
    return history


def _check(model: Network, train: Examples, val: Examples) -> None:
    for name, part in (("training", train), ("validation", val)):
        if len(part) == 0:
            raise ExamplesError(f"there are no {name} examples")
        if part.targets.shape != (len(part), model.outputs):
            raise ExamplesError(f"{name} targets are {part.targets.shape}, the model has {model.outputs} outputs")


def _groups(model: Network, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups; norms and biases are not decayed."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
