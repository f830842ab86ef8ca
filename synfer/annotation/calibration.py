"""Calibration: a member's confidence becomes the share of images on which it is right (Guo et al. 2017, temperature scaling)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from synfer.errors import SynferError

FLOOR = 1e-12
"""Smallest probability whose logarithm is taken."""

_WEIGHTS = (0.0, 20.0)  # a member that is always right on a small set would otherwise be given an infinite weight
_OFFSET_SPREAD = 2.0  # standard deviation of a class offset before anything is known, in units of a log-probability


class AnnotationError(SynferError):
    """Member predictions, labels or settings that do not fit together; the message says what was found."""


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: mean confidence, share right, its standard error and the number of images of each bin that holds any."""

    confidence: np.ndarray
    accuracy: np.ndarray
    error: np.ndarray
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


def as_targets(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels (N,) as probabilities (N, K) of the classes of `scores` (N, K); such probabilities are returned as they are."""
    if labels.ndim == 1:
        check_labels(scores, labels)
        return np.eye(scores.shape[1])[labels]
    if labels.shape != scores.shape or len(labels) == 0:
        raise AnnotationError(f"scores of shape {scores.shape} and targets of shape {labels.shape} do not belong together")
    return labels


def fit_weights(scores: np.ndarray, labels: np.ndarray, *, start: np.ndarray | None = None) -> np.ndarray:
    """Non-negative weights (M,) of `sum_m w_m scores_m` that minimise the mean negative log-likelihood of the labels.

    `scores` (M, N, K), `labels` (N,) or their probabilities (N, K). Convex in w, so L-BFGS-B finds the one minimum and neither the order of
    the members nor the `start` (M,) matters.
    """
    members = np.asarray(scores, dtype=np.float64)
    targets = as_targets(members[0], labels)
    wanted = np.einsum("mnk,nk->m", members, targets) / len(targets)

    def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = log_probabilities(np.tensordot(weights, members, axes=1))
        expected = np.einsum("mnk,nk->m", members, np.exp(log_p)) / len(targets)
        return float(-(targets * log_p).sum(axis=1).mean()), expected - wanted

    if start is None:
        start = np.full(len(members), 1.0 / len(members))
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=[_WEIGHTS] * len(members))
    return np.asarray(found.x)


def fit_weights_and_offsets(
    scores: np.ndarray, labels: np.ndarray, *, start: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative weights (M,) and class offsets (K,) of `sum_m w_m scores_m + b` that minimise the same loss; convex in both.

    Every member's score holds a class prior, so their weighted sum holds it more than once where the weights sum to more than one; the
    offsets put that right (bias-corrected scaling, Alexandari et al. 2020, arXiv 1901.06852). They are Gaussian about 0 a priori, so a
    small sample moves them little. `start` are weights and offsets to begin at.
    """
    members = np.asarray(scores, dtype=np.float64)
    targets = as_targets(members[0], labels)
    count, (images, classes) = len(members), targets.shape
    ridge = 1.0 / (_OFFSET_SPREAD**2 * images)

    def loss_and_gradient(both: np.ndarray) -> tuple[float, np.ndarray]:
        weights, offsets = both[:count], both[count:]
        log_p = log_probabilities(np.tensordot(weights, members, axes=1) + offsets)
        excess = (np.exp(log_p) - targets) / images
        loss = float(-(targets * log_p).sum() / images + ridge * (offsets**2).sum() / 2)
        return loss, np.concatenate([np.einsum("mnk,nk->m", members, excess), excess.sum(axis=0) + ridge * offsets])

    weights, offsets = (np.full(count, 1.0 / count), np.zeros(classes)) if start is None else start
    bounds = [_WEIGHTS] * count + [(None, None)] * classes
    found = minimize(loss_and_gradient, np.concatenate([weights, offsets]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return np.asarray(found[:count]), np.asarray(found[count:] - found[count:].mean())


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T > 0 for which softmax(scores / T) has the least negative log-likelihood.

    `scores` (N, K), `labels` (N,) or their probabilities (N, K).
    """
    weight = float(fit_weights(log_probabilities(scores)[None], labels)[0])
    return 1.0 / max(weight, 0.05)


def scale(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Calibrated probabilities (N, K): softmax(scores / temperature)."""
    return np.exp(log_probabilities(np.asarray(scores, dtype=np.float64) / temperature))


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15, equal_mass: bool = False, confusion: np.ndarray | None = None
) -> Reliability:
    """Confidence against accuracy in `bins` equal bins of confidence, or of equally many images; `probabilities` (N, K), `labels` (N,).

    Where the labels are noisy, `confusion` (K, K) is P(label | true class) and the accuracy is against the true class (see `shares_right`).
    """
    check_labels(probabilities, labels)
    confidence = probabilities.max(axis=1)
    right = shares_right(probabilities, labels, np.eye(probabilities.shape[1]) if confusion is None else confusion)
    if equal_mass:
        index = np.empty(len(labels), dtype=int)
        index[np.argsort(confidence, kind="stable")] = np.arange(len(labels)) * bins // len(labels)
    else:
        index = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    held = count > 0
    mean_confidence, accuracy, square = (np.bincount(index, values, bins)[held] / count[held] for values in (confidence, right, right**2))
    # A bin that is right throughout is not known exactly: one image each way, as Agresti and Coull (1998) add, keeps its error above 0.
    spread = np.maximum(square - accuracy**2, 0.0) + 1.0 / (count[held] + 4.0)
    return Reliability(mean_confidence, accuracy, np.sqrt(spread / count[held]), count[held])


def shares_right(probabilities: np.ndarray, labels: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Estimates (N,) of whether the first choice is the true class, right in the mean though the labels (N,) are noisy.

    The choice c is also the label with probability `confusion[c, c]` where c is true, and with a small probability b where it is not. So
    (hit - b) / (confusion[c, c] - b) is 1 or 0 in the mean; of one image it may lie outside. `confusion` (K, K) is P(label | true class).
    """
    choice = probabilities.argmax(axis=1)
    rows = np.arange(len(choice))
    others = probabilities.copy()
    others[rows, choice] = 0.0
    by_chance = (others * confusion[:, choice].T).sum(axis=1) / np.maximum(others.sum(axis=1), FLOOR)
    return ((choice == labels) - by_chance) / np.maximum(confusion[choice, choice] - by_chance, 0.05)


def chance_ece(
    probabilities: np.ndarray, *, bins: int = 15, equal_mass: bool = False, confusion: np.ndarray | None = None, draws: int = 200,
    seed: int = 0,
) -> float:  # fmt: skip
    """The mean ECE that perfectly calibrated probabilities (N, K) would show on so few images, over `draws` of their labels."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        labels = draw_classes(probabilities, rng)
        if confusion is not None:
            labels = draw_classes(confusion[labels], rng)
        found.append(reliability(probabilities, labels, bins=bins, equal_mass=equal_mass, confusion=confusion).ece)
    return float(np.mean(found))


def draw_classes(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One class (N,) from each row of probabilities (N, K)."""
    drawn = (probabilities.cumsum(axis=1) < rng.random((len(probabilities), 1))).sum(axis=1)
    return np.minimum(drawn, probabilities.shape[1] - 1)
