"""Training of the FERAnno head on features that were computed once: AdamW, one cycle, the best epoch on the validation split.

Where AUs are known, both heads train together on the sum of cross-entropy and `au_weight` times the mean squared error of the known
intensities in units of their variance: an AU is absent from most faces, and without it the rare ones would hardly weigh.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from synfer.annotation.au_consistency import SIDE_CODES, au_vectors, side_intensities, unit_of
from synfer.annotation.calibration import AnnotationError
from synfer.annotation.feranno import Feranno, FerannoShape

AU_WEIGHT = 3.0
"""Weight of the AU loss beside the cross-entropy."""

_LEAST_SPREAD = 0.25  # steps; a unit that hardly varies is not to outweigh the others
_MEASURED_ROWS = 512  # enough for a channel's mean and deviation over all cells


class Rows(Protocol):
    """What of an array (N, ...) is needed; the rows may lie in files."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class FeatureSet:
    """U-Net maps [(N, C_i, h_i, w_i)], attention maps (N, words, h, w) and class indices (N,); maps and attention may lie in files.

    `aus` are the faces' AU vectors (N, AU_COUNT), NaN where unknown; None where nothing is known of any face.
    """

    maps: Sequence[Rows]
    attention: Rows
    labels: np.ndarray
    aus: np.ndarray | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.attention), len(self.labels), *map(len, self.maps), *([] if self.aus is None else [len(self.aus)])}
        if len(lengths) != 1 or 0 in lengths:
            raise AnnotationError(f"features and labels must be equally many and not empty, found {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: np.ndarray, device: str | torch.device) -> tuple[list[Tensor], Tensor]:
        """Maps and attention of some rows as float tensors on a device."""
        return [_tensor(maps[index], device) for maps in self.maps], _tensor(self.attention[index], device)


def fit_feranno(
    train: FeatureSet,
    val: FeatureSet,
    *,
    classes: Sequence[str],
    width: int = 64,
    epochs: int = 12,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    au_weight: float = AU_WEIGHT,
    seed: int = 0,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, metrics: None,
) -> tuple[Feranno, list[dict[str, float]]]:
    """Train a head and return it at its best epoch by UAR on `val`, with the metrics of every epoch.

    It gets an AU head for the units that vary over the training faces; where the training set knows no AUs it gets none.
    """
    aus = AuTargets.of(train, au_weight)
    shape = FerannoShape(tuple(maps.shape[1] for maps in train.maps), train.attention.shape[1], tuple(classes), width, aus=aus.codes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # initial weights and dropout
        model = Feranno(shape)
        model.measure(*train.rows(np.linspace(0, len(train) - 1, min(len(train), _MEASURED_ROWS)).astype(int), "cpu"))
        aus.begin(model)
        model.to(device)
        return _train(model, train, aus, val, epochs, batch_size, learning_rate, weight_decay, np.random.default_rng(seed), on_epoch)


@dataclass(frozen=True)
class AuTargets:
    """What the AU head learns: intensities (N, A) by side, NaN where unknown, of the units `codes` (A), and the weight of their loss."""

    codes: tuple[str, ...]
    intensities: np.ndarray
    weight: float

    @classmethod
    def of(cls, train: FeatureSet, weight: float) -> AuTargets:
        """The units of a training set that vary over its faces; one with sides must vary on both."""
        if train.aus is None or weight == 0:
            return cls((), np.zeros((len(train), 0)), 0.0)
        sides = side_intensities(train.aus)
        known = np.isfinite(sides)
        varies = np.where(known, sides, -np.inf).max(axis=0) > np.where(known, sides, np.inf).min(axis=0)
        constant = {unit_of(code) for code, varied in zip(SIDE_CODES, varies, strict=True) if not varied}
        places = [place for place, code in enumerate(SIDE_CODES) if unit_of(code) not in constant]
        return cls(tuple(SIDE_CODES[place] for place in places), sides[:, places], weight)

    def begin(self, model: Feranno) -> None:
        """Let a fresh AU head say the mean of every face: most units are absent from most faces, and this need not be learned."""
        if model.au_head is not None:
            with torch.no_grad():
                model.au_head.weight.zero_()
                model.au_head.bias.copy_(torch.from_numpy(np.nanmean(self.intensities, axis=0)))

    def loss(self, seen: Tensor, rows: np.ndarray) -> Tensor:
        """The weighted squared error of the known intensities of some rows, in units of their variance; 0 where none is known."""
        asked = _tensor(self.intensities[rows], seen.device)
        error = (seen - torch.nan_to_num(asked)) / _tensor(self._spread, seen.device)
        known = ~asked.isnan()
        return self.weight * (error.square() * known).sum() / known.sum().clamp(min=1)

    @cached_property
    def _spread(self) -> np.ndarray:
        return np.maximum(np.nanstd(self.intensities, axis=0), _LEAST_SPREAD)


def _train(
    model: Feranno, train: FeatureSet, aus: AuTargets, val: FeatureSet, epochs: int, batch_size: int, learning_rate: float,
    weight_decay: float, rng: np.random.Generator, on_epoch: Callable[[int, dict[str, float]], None],
) -> tuple[Feranno, list[dict[str, float]]]:  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    batches = -(-len(train) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * batches, pct_start=0.2)
    history: list[dict[str, float]] = []
    best = copy.deepcopy(model.state_dict())
    for epoch in tqdm(range(epochs), desc="FERAnno", unit="epoch", leave=False):
        loss = _one_epoch(model, train, aus, np.array_split(rng.permutation(len(train)), batches), optimizer, schedule)
        metrics = {"loss": loss, **_score(predict_feranno(model, val), val.labels)}
        if all(metrics["val_uar"] > earlier["val_uar"] for earlier in history):
            best = copy.deepcopy(model.state_dict())
        history.append(metrics)
        on_epoch(epoch, metrics)
    model.load_state_dict(best)
    return model.eval(), history


def _one_epoch(
    model: Feranno, train: FeatureSet, aus: AuTargets, batches: Sequence[np.ndarray], optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:  # fmt: skip
    model.train()
    device, total = model.head.weight.device, 0.0
    for rows in batches:
        rows = np.sort(rows)  # a memory map is read forwards
        maps, attention = train.rows(rows, device)
        targets = torch.from_numpy(train.labels[rows]).long().to(device)
        logits, seen = model.read(maps, attention)
        loss = F.cross_entropy(logits, targets, label_smoothing=0.05) + aus.loss(seen, rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += float(loss.detach()) * len(rows)
    return total / len(train)


@torch.inference_mode()
def predict_feranno(model: Feranno, features: FeatureSet, *, batch_size: int = 256) -> np.ndarray:
    """Logits float32 (N, K) of stored features."""
    device = model.head.weight.device
    model.eval()
    batches = np.array_split(np.arange(len(features)), -(-len(features) // batch_size))
    return np.concatenate([model(*features.rows(rows, device)).float().cpu().numpy() for rows in batches])


@torch.inference_mode()
def predict_aus(model: Feranno, features: FeatureSet, *, batch_size: int = 256) -> np.ndarray:
    """AU vectors float32 (N, AU_COUNT), 0..5, that the AU head reads in stored features; NaN for units that it does not know."""
    device = model.head.weight.device
    model.eval()
    batches = np.array_split(np.arange(len(features)), -(-len(features) // batch_size))
    sides = [model.read(*features.rows(rows, device))[1].float().cpu().numpy() for rows in batches]
    return au_vectors(np.concatenate(sides), model.shape.aus)


def _score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    right = logits.argmax(axis=1) == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return {"val_uar": float(np.mean(recalls)), "val_accuracy": float(right.mean())}


def _tensor(array: np.ndarray, device: str | torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device).float()
