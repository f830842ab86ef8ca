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
class Verdict:
    """What an earlier stage said: whether the data passed, and the names of what did not hold, critical or a warning."""

    passed: bool
    critical: tuple[str, ...] = ()
    warning: tuple[str, ...] = ()

    def words(self) -> str:
        """`passed`, with its warnings named, or `did not pass: names`."""
        if not self.passed:
            return f"did not pass: {', '.join(self.critical)}"
        return f"passed, warnings: {', '.join(self.warning)}" if self.warning else "passed"


@dataclass(frozen=True)
class Scored:
    """A version's probabilities float (N, K) of the test faces, columns in the order of the classes."""

    version: str
    probabilities: np.ndarray


def check_scores(
    section: Registration, truth: np.ndarray, scored: Scored, *, people: Sequence[str] | None = None, resamples: int, seed: int
) -> list[Finding]:
    """The rules that need no champion: UAR at least `min_uar`, calibration error at most `max_ece`.

    `truth` holds class indices (N,), `people` whom each face shows, so that intervals are over people.
    """
    uar, ece = (interval(metric, truth, scored.probabilities, groups=people, resamples=resamples, seed=seed) for metric in (UAR, ECE))
    return [
        Finding("min_uar", uar.value >= section.min_uar, f"UAR is {cell(uar)}, at least {section.min_uar:g} is wanted"),
        Finding("max_ece", ece.value <= section.max_ece, f"calibration error is {cell(ece)}, at most {section.max_ece:g} is wanted"),
    ]


def compare(
    section: Registration, truth: np.ndarray, scored: Scored, champion: Scored, *, classes: Sequence[str],
    people: Sequence[str] | None = None, resamples: int, seed: int,
) -> list[Finding]:  # fmt: skip
    """The rules against the champion: UAR lower by at most `max_uar_drop`, and no class lower by more than `max_class_drop`.

    Either counts as lower only where the interval of the paired difference excludes 0: between equally good trainings UAR moves by a point
    or two, and with a hundred faces a class a recall by several.
    """
    def change_of(metric: Metric) -> Interval:
        return difference(metric, truth, scored.probabilities, champion.probabilities, groups=people, resamples=resamples, seed=seed)

    gain = change_of(UAR)
    lost = gain.value < -section.max_uar_drop and gain.high < 0
    allowed = f"a loss of {section.max_uar_drop:g} is allowed, and one that may be chance"
    rows = [Finding("max_uar_drop", not lost, f"UAR against champion {champion.version} is {cell(gain, signed=True)}, {allowed}")]
    changes = {name: change_of(recall_of(index)) for index, name in enumerate(classes) if (truth == index).any()}
    fallen = {name: change for name, change in changes.items() if change.value < -section.max_class_drop and change.high < 0}
    return [*rows, Finding("max_class_drop", not fallen, _classes_in_words(section.max_class_drop, champion.version, changes, fallen))]


def _classes_in_words(limit: float, version: str, changes: Mapping[str, Interval], fallen: Mapping[str, Interval]) -> str:
    """The classes that have fallen; where none has, the lowest change of all, which may be chance and must be seen all the same."""
    by = f"by more than {limit:g} against champion {version}"
    if fallen:
        return f"fallen {by}: " + ", ".join(f"{name} {cell(change, signed=True)}" for name, change in fallen.items())
    lowest = min(changes, key=lambda name: changes[name].value)
    return f"no class has fallen {by} beyond chance; the lowest change is {lowest} {cell(changes[lowest], signed=True)}"


def check_verdicts(verdicts: Mapping[str, Verdict]) -> list[Finding]:
    """What other stages said, by name (validation, audit)."""
    return [Finding(name, verdict.passed, f"{name} {verdict.words()}") for name, verdict in verdicts.items()]
