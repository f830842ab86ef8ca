"""Rectification: from a posterior to a label and an action, with thresholds chosen on held-out images for a wanted precision.

Held-out real images come with a label, which may be wrong, and with no intent. Their true classes are drawn from what the members and the
label say of them together, and their intents from the noise that `estimate_noise` found on the generated images, given the true class. What
carries over to generated images is the pool's calibration, not a fixed confidence.

One wanted precision gives both thresholds:
- reject: below it, an image would pull the precision of all labels that are used under the target;
- assert: from it upwards, images *as* sure as this one reach the target by themselves (isotonic regression). Between the two an image is
  worth keeping but its label is not worth asserting, so it carries the posterior as a soft label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from synfer.annotation.calibration import AnnotationError, check_labels

ACTIONS = ("keep", "relabel", "soften", "reject")


@dataclass(frozen=True)
class Curve:
    """Precision and coverage (N,) when the images at least as sure as `confidence` (N,) are labelled; confidence falls."""

    confidence: np.ndarray
    precision: np.ndarray
    coverage: np.ndarray


@dataclass(frozen=True)
class Thresholds:
    """Confidences that separate the actions, and what they cost on the held-out images they were chosen on."""

    reject_below: float
    assert_from: float
    target: float
    precision: float
    coverage: float
    asserted: float

    @property
    def reached(self) -> bool:
        """Whether the wanted precision was reached."""
        return self.precision >= self.target


@dataclass(frozen=True)
class Decisions:
    """What is decided for N images; `action` indexes ACTIONS."""

    label: np.ndarray
    action: np.ndarray
    confidence: np.ndarray
    entropy: np.ndarray
    agreement: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """Training weight (N,): 0 for a rejected image, else 1."""
        return (self.action != ACTIONS.index("reject")).astype(np.float32)


def precision_coverage(posterior: np.ndarray, labels: np.ndarray) -> Curve:
    """Precision against coverage of the posterior's first choice; `posterior` (N, K), `labels` (N,)."""
    check_labels(posterior, labels)
    confidence = posterior.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = (posterior.argmax(axis=1) == labels)[order]
    count = np.arange(1, len(labels) + 1)
    return Curve(confidence[order], right.cumsum() / count, count / len(labels))


def choose_thresholds(posterior: np.ndarray, labels: np.ndarray, *, target: float, min_coverage: float = 0.5) -> Thresholds:
    """The thresholds of the least cost at which held-out labels (N,) reach the precision `target`; see the module for their meaning.

    Where no threshold with at least `min_coverage` reaches it, the most precise one of those is taken and `reached` is False.
    """
    if not 0 < target < 1:
        raise AnnotationError(f"the wanted precision is {target}; it must lie between 0 and 1")
    curve = precision_coverage(posterior, labels)
    position = _least_confident(curve, target, min_coverage)
    reject_below = 0.0 if position == len(labels) - 1 else float(curve.confidence[position])
    assert_from = max(reject_below, _assert_threshold(curve, target))
    return Thresholds(
        reject_below,
        assert_from,
        target,
        precision=float(curve.precision[position]),
        coverage=float(curve.coverage[position]),
        asserted=float(np.mean(curve.confidence >= assert_from)),
    )


def _least_confident(curve: Curve, target: float, min_coverage: float) -> int:
    """Position on the curve of the widest coverage whose precision is the target, or of the best precision that covers enough.

    Images that are equally sure are all used or none, so only the last of them is a place to stop.
    """
    enough = np.flatnonzero(_last_of_ties(curve) & (curve.coverage >= min_coverage))
    reached = enough[curve.precision[enough] >= target]
    if len(reached):
        return int(reached[-1])
    return int(enough[np.argmax(curve.precision[enough])])


def _assert_threshold(curve: Curve, target: float) -> float:
    """The smallest confidence whose own precision, by isotonic regression of being right on confidence, is the target."""
    ends = np.flatnonzero(_last_of_ties(curve))
    count = np.diff(ends + 1, prepend=0)
    right = np.diff(curve.precision[ends] * (ends + 1), prepend=0.0) / count
    local = isotonic_regression(right, weights=count, increasing=False).x  # the curve runs from the surest image downwards
    good = np.flatnonzero(local >= target - 1e-9)
    return float(curve.confidence[ends[good[-1]]]) if len(good) else 1.0


def _last_of_ties(curve: Curve) -> np.ndarray:
    """Whether a position (N,) is the last of those with its confidence."""
    return np.append(curve.confidence[1:] != curve.confidence[:-1], True)


def decide(posterior: np.ndarray, intents: np.ndarray | None, member_choices: np.ndarray, thresholds: Thresholds) -> Decisions:
    """The action for each image from its posterior (N, K), intent (N,) and the members' first choices (M, N).

    Without an intent (none at all, or -1) nothing can be kept: a label that is asserted is the members', which is `relabel`.
    """
    label = posterior.argmax(axis=1)
    confidence = posterior.max(axis=1)
    action = np.full(len(posterior), ACTIONS.index("relabel"))
    if intents is not None:
        check_labels(posterior, np.maximum(intents, 0))
        action[label == intents] = ACTIONS.index("keep")
    action[confidence < thresholds.assert_from] = ACTIONS.index("soften")
    action[confidence < thresholds.reject_below] = ACTIONS.index("reject")
    entropy = -(posterior * np.log(np.clip(posterior, 1e-12, None))).sum(axis=1)
    return Decisions(label, action, confidence, np.maximum(entropy, 0.0), (member_choices == label).mean(axis=0))
