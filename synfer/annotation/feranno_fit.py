"""Training of the FERAnno head on features that were computed once: AdamW, one cycle, the best epoch on the validation split."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from synfer.annotation.calibration import AnnotationError
from synfer.annotation.feranno import Feranno, FerannoShape

_MEASURED_ROWS = 512  # enough for a channel's mean and deviation over all cells


@dataclass(frozen=True)
class FeatureSet:
    """U-Net maps [(N, C_i, h_i, w_i)], attention maps (N, words, h, w) and class indices (N,); the arrays may be memory maps."""

    maps: Sequence[np.ndarray]
    attention: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        lengths = {len(self.attention), len(self.labels), *map(len, self.maps)}
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
    seed: int = 0,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, metrics: None,
) -> tuple[Feranno, list[dict[str, float]]]:
    """Train a head and return it at its best epoch by UAR on `val`, with the metrics of every epoch."""
    shape = FerannoShape(tuple(maps.shape[1] for maps in train.maps), train.attention.shape[1], tuple(classes), width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # initial weights and dropout
        model = Feranno(shape)
        model.measure(*train.rows(np.linspace(0, len(train) - 1, min(len(train), _MEASURED_ROWS)).astype(int), "cpu"))
        model.to(device)
        return _train(model, train, val, epochs, batch_size, learning_rate, weight_decay, np.random.default_rng(seed), on_epoch)


def _train(
    model: Feranno, train: FeatureSet, val: FeatureSet, epochs: int, batch_size: int, learning_rate: float, weight_decay: float,
    rng: np.random.Generator, on_epoch: Callable[[int, dict[str, float]], None],
) -> tuple[Feranno, list[dict[str, float]]]:  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    batches = -(-len(train) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * batches, pct_start=0.2)
    history: list[dict[str, float]] = []
    best = copy.deepcopy(model.state_dict())
    for epoch in tqdm(range(epochs), desc="FERAnno", unit="epoch", leave=False):
        loss = _one_epoch(model, train, np.array_split(rng.permutation(len(train)), batches), optimizer, schedule)
        metrics = {"loss": loss, **_score(predict_feranno(model, val), val.labels)}
        if all(metrics["val_uar"] > earlier["val_uar"] for earlier in history):
            best = copy.deepcopy(model.state_dict())
        history.append(metrics)
        on_epoch(epoch, metrics)
    model.load_state_dict(best)
    return model.eval(), history


def _one_epoch(
    model: Feranno, train: FeatureSet, batches: Sequence[np.ndarray], optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:  # fmt: skip
    model.train()
    device, total = model.head.weight.device, 0.0
    for rows in batches:
        rows = np.sort(rows)  # a memory map is read forwards
        maps, attention = train.rows(rows, device)
        targets = torch.from_numpy(train.labels[rows]).long().to(device)
        loss = F.cross_entropy(model(maps, attention), targets, label_smoothing=0.05)
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


def _score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    right = logits.argmax(axis=1) == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return {"val_uar": float(np.mean(recalls)), "val_accuracy": float(right.mean())}


def _tensor(array: np.ndarray, device: str | torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device).float()
