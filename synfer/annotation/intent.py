"""The intent as a prior: how often does a generator that was asked for one expression draw another?

The truth of a generated image is unknown, but calibrated members see it through a known haze. EM over their probabilities finds the joint
distribution of (true class, intent) that explains both best: Dawid and Skene (1979) with the members' probabilities in place of a vote.
Its two margins are held equal: the plan says how many of each class were asked, and members that lean to one class on generated images
would otherwise have all of them be that class, whatever was asked. Members that see nothing leave the noise where EM starts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synfer.annotation.calibration import AnnotationError, as_scores, check_labels, log_probabilities

_ITERATIONS = 50  # EM moves by less than 1e-4 long before
_START = 0.8  # share of intents taken to be right at the start, and to the end if the members know nothing
_FITTINGS = 20  # rounds of iterative proportional fitting in an EM step


@dataclass(frozen=True)
class IntentNoise:
    """Joint distribution (K true classes, K intents) of what is drawn and what was asked; every entry is positive."""

    joint: np.ndarray

    @property
    def truth_given_intent(self) -> np.ndarray:
        """P(true class | intent), (K intents, K classes): row i is the prior that intent i gives."""
        return (self.joint / self.joint.sum(axis=0, keepdims=True)).T

    @property
    def intent_given_truth(self) -> np.ndarray:
        """P(intent | true class), (K classes, K intents)."""
        return self.joint / self.joint.sum(axis=1, keepdims=True)

    @property
    def wrong(self) -> float:
        """Share of images that do not show what was asked."""
        return float(1.0 - np.trace(self.joint))

    def simulate(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Intents (N,) that a generator with this noise might have had when it drew faces of the classes `labels` (N,)."""
        cumulative = self.intent_given_truth.cumsum(axis=1)[labels]
        drawn = (cumulative < rng.random((len(labels), 1))).sum(axis=1)
        return np.minimum(drawn, self.joint.shape[1] - 1)


def estimate_noise(probabilities: np.ndarray, intents: np.ndarray, *, smoothing: float = 20.0) -> IntentNoise:
    """The noise of the intents (N,) of images with pooled, calibrated probabilities (N, K) under a uniform prior over classes.

    To each intent, `smoothing` images are added that are distributed as at the start: four of five right, the rest over all classes. So a
    small sample rules no confusion out, and members that see little move little.
    """
    check_labels(probabilities, intents)
    classes = probabilities.shape[1]
    asked = np.eye(classes)[intents]  # (N, K)
    margin = (asked.sum(axis=0) + smoothing) / (len(intents) + smoothing * classes)
    start = np.where(np.eye(classes, dtype=bool), _START, (1 - _START) / (classes - 1))  # P(true class | intent) in column form
    joint = start * margin
    for _ in range(_ITERATIONS):
        responsibility = probabilities * joint[:, intents].T
        responsibility /= responsibility.sum(axis=1, keepdims=True)
        joint = _with_margins(responsibility.T @ asked + smoothing * start, margin)
    return IntentNoise(joint)


def _with_margins(joint: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """The positive matrix (K, K) nearest to `joint` whose rows and columns both sum to `margin` (K,): iterative proportional fitting."""
    for _ in range(_FITTINGS):
        joint = joint * (margin / joint.sum(axis=1))[:, None]
        joint = joint * (margin / joint.sum(axis=0))
    return joint


def posterior(probabilities: np.ndarray, intents: np.ndarray, noise: IntentNoise, *, strength: float = 1.0) -> np.ndarray:
    """Members' pooled probabilities (N, K) times the intent's prior to the power `strength`: 1 is Bayes' rule, 0 ignores the intent."""
    if strength < 0:
        raise AnnotationError(f"the strength of the intent is {strength}; it must not be negative")
    prior = as_scores(noise.truth_given_intent)[intents]
    return np.exp(log_probabilities(as_scores(probabilities) + strength * prior))
