"""The whole rectification as one function of arrays: members' scores, the labels as they came, and held-out faces with labels.

Calibration, pool and thresholds are fitted on the held-out faces, whose own labels are taken to be noisy. Where labels came with the images
(the intents of a generator, or the labels of somebody's data set), their noise is estimated and they are one more witness; where none came,
the pool alone decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from synfer.annotation.calibration import check_labels, draw_classes
from synfer.annotation.intent import choose_strength, estimate_noise, posterior
from synfer.annotation.label_noise import LabelNoise
from synfer.annotation.pooling import Members, Pool, fit_pool
from synfer.annotation.reasons import reasons
from synfer.annotation.rectify import Decisions, Thresholds, choose_thresholds, decide

AUTO: Literal["auto"] = "auto"
"""The strength of the given labels is chosen on the held-out faces."""

_SIMULATIONS = 10  # draws of every held-out face's truth and given label: the noise of one draw would move the thresholds


@dataclass(frozen=True)
class HeldOut:
    """Labelled faces that no member has learned from: every member's scores (N, K) by name, and the label (N,)."""

    members: Members
    labels: np.ndarray


@dataclass(frozen=True)
class Simulated:
    """The held-out faces with simulated true classes and given labels, each face several times.

    The members' pool (N, K) under a uniform class prior, the posterior (N, K), the true class (N,), drawn from what members and held-out
    label say of it, and the given label (N,), drawn from the noise of the given ones; None where no labels came.
    """

    pooled: np.ndarray
    posterior: np.ndarray
    truth: np.ndarray
    given: np.ndarray | None


@dataclass(frozen=True)
class Rectified:
    """What is made of N images: the posterior (N, K), decisions and reasons, and the fits behind them.

    `probabilities` are each member's calibrated ones (N, K) by name; `noise` is that of the given labels, None where none came.
    """

    classes: tuple[str, ...]
    posterior: np.ndarray
    decisions: Decisions
    reasons: list[str]
    noise: LabelNoise | None
    intent_strength: float
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
    intent_strength: float | Literal["auto"] = AUTO,
    equal_margins: bool = True,
    target_precision: float = 0.95,
    min_coverage: float = 0.5,
    seed: int = 0,
    origin: str = "asked",
) -> Rectified:
    """Rectify the labels of images that the members gave scores (N, K).

    `given` are the class indices (N,) of the labels as they came, -1 for an image without one, None where none did: then the label is the
    members' and its action is relabel, soften or reject. `equal_margins` says that every class is shown as often as it is given, which a
    generator's plan promises and other labels do not. `origin` is what the reasons call such a label ("asked" of a generator, "given" with
    a data set); `seed` draws the simulation on the held-out faces. Raises AnnotationError where members, labels or settings do not fit
    together.
    """
    fitted = fit_pool(held_out.members, held_out.labels, rule=pool)
    pooled, probabilities = fitted.likelihood(members), fitted.calibrated(members)
    given = _given_at_all(given, pooled)
    noise = None if given is None else estimate_noise(pooled[given >= 0], given[given >= 0], equal_margins=equal_margins)
    simulated, strength = _simulate(fitted, held_out, noise, intent_strength, seed)
    thresholds = choose_thresholds(simulated.posterior, simulated.truth, target=target_precision, min_coverage=min_coverage)
    result = pooled
    if given is not None and noise is not None:
        result = np.where((given >= 0)[:, None], posterior(pooled, np.maximum(given, 0), noise, strength=strength), pooled)
    choices = {name: found.argmax(axis=1) for name, found in probabilities.items()}
    decisions = decide(result, given, np.stack(list(choices.values())), thresholds)
    words = reasons(result, given, choices, decisions, thresholds, classes=classes, origin=origin)
    return Rectified(tuple(classes), result, decisions, words, noise, strength, thresholds, fitted, probabilities, simulated)


def _given_at_all(given: np.ndarray | None, pooled: np.ndarray) -> np.ndarray | None:
    """The labels as they came, None where no image came with one; raises AnnotationError if they do not belong to the images."""
    if given is None or not (given >= 0).any():
        return None
    check_labels(pooled, np.maximum(given, 0))
    return given


def _simulate(
    pool: Pool, held_out: HeldOut, noise: LabelNoise | None, strength: float | Literal["auto"], seed: int
) -> tuple[Simulated, float]:
    """The held-out faces `_SIMULATIONS` times, and the strength of the given labels, which is chosen on them if it is "auto"."""
    rng = np.random.default_rng(seed)
    seen = pool(held_out.members)
    truth = draw_classes(np.tile(pool.noise.truth(seen, held_out.labels), (_SIMULATIONS, 1)), rng)
    pooled = np.tile(pool.likelihood(held_out.members), (_SIMULATIONS, 1))
    if noise is None:
        return Simulated(pooled, pooled, truth, None), 0.0
    given = noise.simulate(truth, rng)
    chosen = choose_strength(pooled, given, noise, truth) if strength == AUTO else strength
    return Simulated(pooled, posterior(pooled, given, noise, strength=chosen), truth, given), chosen
