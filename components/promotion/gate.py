"""The gate between a trained classifier and alias `challenger`: minimum scores, and a comparison with the champion on the same test faces.

The champion is scored anew on the test faces of today, so that both are compared image by image, also where the test set has changed since
the champion was registered. A gate that closes stops nothing: the version is registered with the reasons as tags, and a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from components.intervals import cell
from synfer.config import Registration
from synfer.metrics.bootstrap import Interval, difference, interval
from synfer.metrics.classification import ECE, UAR, Metric, recall_of


@dataclass(frozen=True)
class Finding:
    """One rule of the gate: whether it holds, and why in words with the figures."""

    rule: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Scored:
    """A version's probabilities float (N, K) of the test faces, columns in the order of the classes."""

    version: str
    probabilities: np.ndarray


def check_scores(section: Registration, truth: np.ndarray, scored: Scored, *, resamples: int, seed: int) -> list[Finding]:
    """The rules that need no champion: UAR at least `min_uar`, calibration error at most `max_ece`. `truth` holds class indices (N,)."""
    uar = interval(UAR, truth, scored.probabilities, resamples=resamples, seed=seed)
    ece = interval(ECE, truth, scored.probabilities, resamples=resamples, seed=seed)
    return [
        Finding("min_uar", uar.value >= section.min_uar, f"UAR is {cell(uar)}, at least {section.min_uar:g} is wanted"),
        Finding("max_ece", ece.value <= section.max_ece, f"calibration error is {cell(ece)}, at most {section.max_ece:g} is wanted"),
    ]


def compare(
    section: Registration, truth: np.ndarray, scored: Scored, champion: Scored, *, classes: Sequence[str], resamples: int, seed: int
) -> list[Finding]:
    """The rules against the champion: UAR lower by at most `max_uar_drop`, and no class lower by more than `max_class_drop`.

    A class counts as fallen only where the interval of the paired difference excludes 0: with a hundred faces a class, a recall moves by
    several points from one training to the next.
    """
    def change_of(metric: Metric) -> Interval:
        return difference(metric, truth, scored.probabilities, champion.probabilities, resamples=resamples, seed=seed)

    gain = change_of(UAR)
    rows = [
        Finding(
            "max_uar_drop",
            gain.value >= -section.max_uar_drop,
            f"UAR against champion {champion.version} is {cell(gain, signed=True)}, a loss of {section.max_uar_drop:g} is allowed",
        )
    ]
    changes = {name: change_of(recall_of(index)) for index, name in enumerate(classes) if (truth == index).any()}
    fallen = {name: change for name, change in changes.items() if change.value < -section.max_class_drop and change.high < 0}
    text = ", ".join(f"{name} {cell(change, signed=True)}" for name, change in fallen.items())
    allowed = f"more than {section.max_class_drop:g} against champion {champion.version}"
    return [*rows, Finding("max_class_drop", not fallen, f"fallen by {allowed}: {text}" if fallen else f"no class has fallen by {allowed}")]


def check_verdicts(verdicts: Mapping[str, tuple[bool, Sequence[str]]]) -> list[Finding]:
    """What other stages said: name (validation, audit) -> whether it passed, and the names of what did not."""
    return [
        Finding(name, passed, f"{name} passed" if passed else f"{name} did not pass: {', '.join(failed)}")
        for name, (passed, failed) in verdicts.items()
    ]
