"""The intent as a prior: how often does a generator that was asked for one expression draw another?

The truth of a generated image is unknown, but calibrated members see it through a known haze. EM over their probabilities finds the joint
distribution of (true class, intent) that explains both best: Dawid and Skene (1979) with the members' probabilities in place of a vote.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synfer.annotation.calibration import AnnotationError, as_scores, check_labels, log_probabilities

_ITERATIONS = 50  # EM moves by less than 1e-4 long before


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


def estimate_noise(probabilities: np.ndarray, intents: np.ndarray, *, smoothing: float = 1.0) -> IntentNoise:
    """The noise of the intents (N,) of images with pooled, calibrated probabilities (N, K) under a uniform prior over classes.

    `smoothing` images are added to each intent, spread evenly over the classes, so that no confusion is ruled out by a small sample.
    """
    check_labels(probabilities, intents)
    classes = probabilities.shape[1]
    asked = np.eye(classes)[intents]  # (N, K)
    joint = np.full((classes, classes), 0.5 / classes) + 0.5 * np.eye(classes)
    for _ in range(_ITERATIONS):
        responsibility = probabilities * joint[:, intents].T
        responsibility /= responsibility.sum(axis=1, keepdims=True)
        counts = responsibility.T @ asked + smoothing / classes
        joint = counts / counts.sum()
    return IntentNoise(joint)


def posterior(probabilities: np.ndarray, intents: np.ndarray, noise: IntentNoise, *, strength: float = 1.0) -> np.ndarray:
    """Members' pooled probabilities (N, K) times the intent's prior to the power `strength`: 1 is Bayes' rule, 0 ignores the intent."""
    if strength < 0:
        raise AnnotationError(f"the strength of the intent is {strength}; it must not be negative")
    prior = as_scores(noise.truth_given_intent)[intents]
    return np.exp(log_probabilities(as_scores(probabilities) + strength * prior))
