"""Noise of labels, and calibration that sees through it.

Held-out labels are wrong at a rate that nobody knows. A member that is calibrated on them as if they were right is taught to doubt what it
sees. So the label is read as a noisy view of a latent true class t, `P(label | x) = sum_t P(label | t) p(t | x)`, and the members' weights
(which hold their temperatures), class offsets and `P(label | t)` are estimated together by EM. What tells them apart: where the members are
sure, they and the label disagree at the rate of the labels' noise; where they are unsure, more often. It takes label errors and members'
errors to be independent given the true class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synfer.annotation.calibration import check_labels, draw_classes, fit_weights_and_offsets, log_probabilities

START = 0.8
"""Share of labels taken to be right before anything is known of them, and to the end if the members know nothing."""

_DOUBT = 0.25  # images in all whose true class might be any: members that never err on a small sample are not sure without end
_ITERATIONS, _STILL = 200, 1e-4  # EM ends when no entry of P(label | true class) moves by more than this


@dataclass(frozen=True)
class LabelNoise:
    """Joint distribution (K true classes, K labels) of what images show and what they are labelled; every entry is positive."""

    joint: np.ndarray

    @property
    def truth_given_label(self) -> np.ndarray:
        """P(true class | label), (K labels, K classes): row i is the prior that label i gives."""
        return (self.joint / self.joint.sum(axis=0, keepdims=True)).T

    @property
    def label_given_truth(self) -> np.ndarray:
        """P(label | true class), (K classes, K labels)."""
        return self.joint / self.joint.sum(axis=1, keepdims=True)

    @property
    def wrong(self) -> float:
        """Share of images that do not show what their label says."""
        return float(1.0 - np.trace(self.joint))

    def simulate(self, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Labels (N,) that a source with this noise might have given images of the true classes `truth` (N,)."""
        return draw_classes(self.label_given_truth[truth], rng)

    def truth(self, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """P(true class | what the members see, label) (N, K) of images with members' probabilities (N, K) and labels (N,)."""
        joint = probabilities * self.label_given_truth[:, labels].T
        return joint / joint.sum(axis=1, keepdims=True)


def doubted(truth: np.ndarray) -> np.ndarray:
    """Soft targets (N, K) with a little doubt in all of them, which counts the more the fewer they are."""
    share = min(_DOUBT / len(truth), 1.0)
    return (1.0 - share) * truth + share / truth.shape[1]


def mostly_right(classes: int) -> np.ndarray:
    """P(label | true class) (K, K) before anything is known: `START` on the diagonal, the rest over the other classes alike."""
    return np.where(np.eye(classes, dtype=bool), START, (1.0 - START) / (classes - 1))


@dataclass(frozen=True)
class Seen:
    """What members see under the held-out faces' own class prior: `p(t | x) ~ exp(sum_m w_m scores_m + b)`; weights (M,), offsets (K,)."""

    weights: np.ndarray
    offsets: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities (N, K) of the members' scores (M, N, K)."""
        return np.exp(log_probabilities(np.tensordot(self.weights, scores, axes=1) + self.offsets))


def fit_through_noise(scores: np.ndarray, labels: np.ndarray, *, smoothing: float = 5.0) -> tuple[Seen, LabelNoise]:
    """What the members see and the noise of the labels that together explain the labels (N,) best.

    `scores` (M, N, K). `smoothing` images a class, noisy as `mostly_right` says, keep a small sample from ruling a confusion out. EM
    (Dempster et al. 1977): given the noise, the posterior of the true class is the soft target of a convex fit; given that, the noise is
    a count.
    """
    check_labels(scores[0], labels)
    classes, members = scores.shape[-1], log_probabilities(scores)
    given, start = np.eye(classes)[labels], mostly_right(classes)
    confusion, seen = start, Seen(np.full(len(members), 1.0 / len(members)), np.zeros(classes))
    for _ in range(_ITERATIONS):
        truth = LabelNoise(confusion).truth(seen(members), labels)
        counts = truth.T @ given + smoothing * start
        before, confusion = confusion, counts / counts.sum(axis=1, keepdims=True)
        seen = Seen(*fit_weights_and_offsets(members, doubted(truth), start=(seen.weights, seen.offsets)))
        if np.abs(confusion - before).max() < _STILL:
            break
    return seen, LabelNoise(confusion * counts.sum(axis=1, keepdims=True) / counts.sum())
