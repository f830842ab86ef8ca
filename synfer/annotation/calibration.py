"""Calibration: a member's confidence becomes the share of images on which it is right (Guo et al. 2017, temperature scaling)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from synfer.errors import SynferError

FLOOR = 1e-12
"""Smallest probability whose logarithm is taken."""


class AnnotationError(SynferError):
    """Member predictions, labels or settings that do not fit together; the message says what was found."""


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: mean confidence, share right and number of images of each confidence bin that holds any."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error 0..1: the gap between confidence and accuracy, averaged over images."""
        return float(np.sum(self.count * np.abs(self.confidence - self.accuracy)) / np.sum(self.count))


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    """Logarithms (N, K) of the probabilities that logits or log-probabilities (N, K) stand for."""
    scores = np.asarray(scores, dtype=np.float64)
    return scores - logsumexp(scores, axis=-1, keepdims=True)


def as_scores(probabilities: np.ndarray) -> np.ndarray:
    """Log-probabilities (N, K) of probabilities (N, K); they are logits up to a constant that softmax does not see."""
    return np.log(np.clip(np.asarray(probabilities, dtype=np.float64), FLOOR, None))


def check_labels(scores: np.ndarray, labels: np.ndarray) -> None:
    """Raise AnnotationError unless `labels` (N,) are class indices of `scores` (N, K) and N > 0."""
    if scores.ndim != 2 or len(scores) != len(labels) or len(labels) == 0:
        raise AnnotationError(f"scores of shape {scores.shape} and {len(labels)} labels do not belong together")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise AnnotationError(f"labels lie in {labels.min()}..{labels.max()}, but there are {scores.shape[1]} classes")


def fit_weights(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Non-negative weights (M,) of `sum_m w_m scores_m` that minimise the mean negative log-likelihood of the labels.

    `scores` (M, N, K), `labels` (N,). Convex in w, so L-BFGS-B finds the one minimum and the order of the members does not matter.
    """
    check_labels(scores[0], labels)
    members = np.asarray(scores, dtype=np.float64)
    rows = np.arange(len(labels))
    chosen = members[:, rows, labels]  # (M, N)

    def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = log_probabilities(np.tensordot(weights, members, axes=1))
        expected = np.einsum("mnk,nk->mn", members, np.exp(log_p))
        return float(-log_p[rows, labels].mean()), (expected - chosen).mean(axis=1)

    start = np.full(len(members), 1.0 / len(members))
    # At most 20: a member that is always right on a small set would otherwise be given an infinite weight.
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=[(0.0, 20.0)] * len(members))
    return np.asarray(found.x)


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T > 0 for which softmax(scores / T) has the least negative log-likelihood; `scores` (N, K), `labels` (N,)."""
    weight = float(fit_weights(log_probabilities(scores)[None], labels)[0])
    return 1.0 / max(weight, 0.05)


def scale(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Calibrated probabilities (N, K): softmax(scores / temperature)."""
    return np.exp(log_probabilities(np.asarray(scores, dtype=np.float64) / temperature))


def reliability(probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> Reliability:
    """Confidence against accuracy in `bins` equal bins of confidence; `probabilities` (N, K), `labels` (N,)."""
    check_labels(probabilities, labels)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    held = count > 0
    mean_confidence = np.bincount(index, confidence, bins)[held] / count[held]
    return Reliability(mean_confidence, np.bincount(index, right, bins)[held] / count[held], count[held])
