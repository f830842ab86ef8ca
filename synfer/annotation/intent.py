"""The given label as a prior: how often does a generator that was asked for one expression draw another?

The truth of a generated image is unknown, but calibrated members see it through a known haze. EM over their probabilities finds the joint
distribution of (true class, given label) that explains both best: Dawid and Skene (1979), with the members' probabilities for votes.

By default its two margins are held equal: the plan says how many of each class were asked, and members that lean to one class on generated
images would otherwise have all of them be that class, whatever was asked. Labels of other origin promise no such thing: there the margin of
the true classes is free. Members that see nothing leave the noise where EM starts.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from synfer.annotation.calibration import AnnotationError, as_scores, check_labels, log_probabilities
from synfer.annotation.label_noise import LabelNoise, mostly_right

_ITERATIONS = 50  # EM moves by less than 1e-4 long before
_FITTINGS = 20  # rounds of iterative proportional fitting in an EM step


def estimate_noise(probabilities: np.ndarray, given: np.ndarray, *, equal_margins: bool = True, smoothing: float = 5.0) -> LabelNoise:
    """The noise of the labels (N,) of images with pooled, calibrated probabilities (N, K) under a uniform prior over classes.

    To each label, `smoothing` images are added that are distributed as at the start: four of five right, the rest over all classes. So a
    small sample rules no confusion out, and members that see little move little. `equal_margins` says that every class is shown as often
    as it is given.
    """
    check_labels(probabilities, given)
    classes = probabilities.shape[1]
    asked = np.eye(classes)[given]  # (N, K)
    margin = (asked.sum(axis=0) + smoothing) / (len(given) + smoothing * classes)
    start = mostly_right(classes)  # P(true class | label) in column form
    joint = start * margin
    for _ in range(_ITERATIONS):
        truth = probabilities * joint[:, given].T
        truth /= truth.sum(axis=1, keepdims=True)
        counts = truth.T @ asked + smoothing * start
        joint = _with_margins(counts, margin) if equal_margins else counts / counts.sum()
    return LabelNoise(joint)


def _with_margins(joint: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """The positive matrix (K, K) nearest to `joint` whose rows and columns both sum to `margin` (K,): iterative proportional fitting."""
    for _ in range(_FITTINGS):
        joint = joint * (margin / joint.sum(axis=1))[:, None]
        joint = joint * (margin / joint.sum(axis=0))
    return joint


def posterior(probabilities: np.ndarray, given: np.ndarray, noise: LabelNoise, *, strength: float = 1.0) -> np.ndarray:
    """Members' pooled probabilities (N, K) times the given label's prior to the power `strength`: 1 is Bayes' rule, 0 ignores the label."""
    if strength < 0:
        raise AnnotationError(f"the strength of the intent is {strength}; it must not be negative")
    prior = as_scores(noise.truth_given_label)[given]
    return np.exp(log_probabilities(as_scores(probabilities) + strength * prior))


def choose_strength(probabilities: np.ndarray, given: np.ndarray, noise: LabelNoise, truth: np.ndarray) -> float:
    """The strength 0..2 of the given labels (N,) at which the posterior is likeliest for the true classes (N,) of held-out images.

    Bayes' 1 is best where the pool is calibrated; a pool that is too sure of itself asks for more, one that doubts too much for less.
    """
    pooled, prior, rows = as_scores(probabilities), as_scores(noise.truth_given_label)[given], np.arange(len(truth))

    def loss(strength: float) -> float:
        return -float(log_probabilities(pooled + strength * prior)[rows, truth].mean())

    return float(minimize_scalar(loss, bounds=(0.0, 2.0), method="bounded", options={"xatol": 1e-3}).x)
