"""The whole rectification as one function of arrays: members' scores, the labels as they came, and held-out faces with labels.

Calibration, pool and thresholds are fitted on the held-out faces. Where labels came with the images (the intents of a generator, or the
labels of somebody's data set), their noise is estimated and they are one more witness; where none came, the pool alone decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synfer.annotation.calibration import check_labels
from synfer.annotation.intent import IntentNoise, estimate_noise, posterior
from synfer.annotation.pooling import Members, Pool, fit_pool
from synfer.annotation.reasons import reasons
from synfer.annotation.rectify import Decisions, Thresholds, choose_thresholds, decide

_SIMULATIONS = 10  # draws of every held-out face's given label: the noise of one draw would move the thresholds


@dataclass(frozen=True)
class HeldOut:
    """Labelled faces that no member has learned from: every member's scores (N, K) by name, and the label (N,)."""

    members: Members
    labels: np.ndarray


@dataclass(frozen=True)
class Simulated:
    """The held-out faces with simulated given labels, each face several times.

    The members' pool (N, K), the posterior (N, K), the label (N,) and the given label (N,), None where no labels came.
    """

    pooled: np.ndarray
    posterior: np.ndarray
    labels: np.ndarray
    given: np.ndarray | None


@dataclass(frozen=True)
class Rectified:
    """What is made of N images: the posterior (N, K), decisions and reasons, and the fits behind them.

    `probabilities` are each member's calibrated ones (N, K) by name; `noise` is None where no labels came with the images.
    """

    classes: tuple[str, ...]
    posterior: np.ndarray
    decisions: Decisions
    reasons: list[str]
    noise: IntentNoise | None
    thresholds: Thresholds
    pool: Pool
    probabilities: dict[str, np.ndarray]
    simulated: Simulated


def rectify_labels(
    members: Members,
    given: np.ndarray | None,
    held_out: HeldOut,
    *,
    classes: Sequence[str],
    pool: str = "logarithmic",
    intent_strength: float = 1.0,
    target_precision: float = 0.95,
    min_coverage: float = 0.5,
    seed: int = 0,
    origin: str = "asked",
) -> Rectified:
    """Rectify the labels of images that the members gave scores (N, K).

    `given` are the class indices (N,) of the labels as they came, None where none did: then the label is the members' and its action is
    relabel, soften or reject. `origin` is what the reasons call such a label ("asked" of a generator, "given" with a data set), `seed`
    draws the simulated labels of the held-out faces. Raises AnnotationError where members, labels or settings do not fit together.
    """
    fitted = fit_pool(held_out.members, held_out.labels, rule=pool)
    pooled, probabilities = fitted(members), fitted.calibrated(members)
    if given is not None:
        check_labels(pooled, given)
    noise = None if given is None else estimate_noise(pooled, given)
    result = _posterior(pooled, given, noise, intent_strength)
    simulated = _simulate(fitted(held_out.members), held_out.labels, noise, intent_strength, seed)
    thresholds = choose_thresholds(simulated.posterior, simulated.labels, target=target_precision, min_coverage=min_coverage)
    choices = {name: found.argmax(axis=1) for name, found in probabilities.items()}
    decisions = decide(result, given, np.stack(list(choices.values())), thresholds)
    words = reasons(result, given, choices, decisions, thresholds, classes=classes, origin=origin)
    return Rectified(tuple(classes), result, decisions, words, noise, thresholds, fitted, probabilities, simulated)


def _simulate(pooled: np.ndarray, labels: np.ndarray, noise: IntentNoise | None, strength: float, seed: int) -> Simulated:
    """The held-out faces `_SIMULATIONS` times, each time with other given labels; once and without any where there is no noise."""
    if noise is None:
        return Simulated(pooled, pooled, labels, None)
    pooled, labels = np.tile(pooled, (_SIMULATIONS, 1)), np.tile(labels, _SIMULATIONS)
    given = noise.simulate(labels, np.random.default_rng(seed))
    return Simulated(pooled, posterior(pooled, given, noise, strength=strength), labels, given)


def _posterior(pooled: np.ndarray, given: np.ndarray | None, noise: IntentNoise | None, strength: float) -> np.ndarray:
    """The pool (N, K), with the given labels as a prior where there are any."""
    return pooled if given is None or noise is None else posterior(pooled, given, noise, strength=strength)
