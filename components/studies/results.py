"""From the cells' predictions to figures with intervals, and to differences between arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from components.classifier_scores import Bootstrap
from components.record import Metric
from components.studies.cell import Cell, Outcome
from components.studies.division import StudyError
from synfer.classifiers.examples import class_indices
from synfer.config import Evaluation
from synfer.metrics.bootstrap import Interval
from synfer.metrics.classification import METRICS
from synfer.metrics.repeats import repeated_difference, repeated_interval, repeated_share, share_difference

HITS, ASKED = "hits_", "asked_"
"""Beginnings of the columns of rows that have no probabilities: how often a face was right, and how often it was asked, by measure."""


@dataclass(frozen=True)
class Repeats:
    """The trainings of one arm: their predictions of the same rows, and their own figures."""

    arm: str
    outcomes: tuple[Outcome, ...]

    @cached_property
    def ids(self) -> list[str]:
        """Sample ids of the rows; raises StudyError if the trainings have predicted different ones."""
        first, *others = (outcome.predictions["sample_id"].tolist() for outcome in self.outcomes)
        if any(other != first for other in others):
            raise StudyError(f"the trainings of {self.arm!r} have predicted different images; remove its cells and run them again")
        return first

    @cached_property
    def probabilities(self) -> np.ndarray | None:
        """Float (S, N, K), None where rows have hits instead."""
        columns = [name for name in self.frame.columns if name.startswith("p_")]
        return np.stack([outcome.predictions[columns].to_numpy() for outcome in self.outcomes]) if columns and self.ids else None

    @property
    def frame(self) -> pd.DataFrame:
        """The rows of the first training."""
        return self.outcomes[0].predictions

    def shares(self, measure: str) -> tuple[np.ndarray, np.ndarray]:
        """Hits and times asked, int (S, N), of rows that have them."""
        hits, asked = (np.stack([each.predictions[name + measure].to_numpy() for each in self.outcomes]) for name in (HITS, ASKED))
        return hits, asked

    @property
    def measures(self) -> list[str]:
        """Measures of rows that have hits."""
        return [name.removeprefix(HITS) for name in self.frame.columns if name.startswith(HITS)]

    @cached_property
    def truth(self) -> np.ndarray:
        """Class indices (N,)."""
        return class_indices(self.frame["truth"].tolist(), [name[2:] for name in self.frame.columns if name.startswith("p_")])

    @property
    def groups(self) -> list[str] | None:
        """Whom each face shows, where that is known of all."""
        known = "identity" in self.frame.columns and (self.frame["identity"] != "").all()
        return self.frame["identity"].tolist() if known else None

    def mean(self, key: str) -> float | None:
        """Mean over the trainings of a figure of their own, such as the number of training images."""
        found = [outcome.metrics[key].value for outcome in self.outcomes if key in outcome.metrics]
        return float(np.mean(found)) if found else None


@dataclass(frozen=True)
class Comparison:
    """A question to two arms: is `ours` above `theirs` in `measure`? `words` says what it would mean."""

    ours: str
    theirs: str
    words: str
    measure: str = "uar"

    @property
    def name(self) -> str:
        """Both arms."""
        return f"{self.ours} minus {self.theirs}"


@dataclass
class Results:
    """The arms of a finished study and how their intervals are computed."""

    arms: Mapping[str, Repeats]
    section: Evaluation
    seed: int
    _kept: dict[tuple[str, ...], Interval] = field(default_factory=dict)

    @classmethod
    def of(cls, cells: Sequence[Cell], outcomes: Iterable[Outcome], section: Evaluation, *, seed: int) -> Results:
        """Group the outcomes of the cells by arm, in the order of the cells."""
        grouped: dict[str, list[Outcome]] = {}
        for cell, outcome in zip(cells, outcomes, strict=True):
            grouped.setdefault(cell.arm, []).append(outcome)
        return cls({arm: Repeats(arm, tuple(found)) for arm, found in grouped.items()}, section, seed)

    def measures(self, arm: str) -> list[str]:
        """What was measured of an arm: the metrics of its predictions, and figures that came with an interval."""
        repeats = self.arms[arm]
        own = [key for key, metric in repeats.outcomes[0].metrics.items() if metric.low is not None]
        return [*(METRICS if repeats.probabilities is not None else repeats.measures), *own]

    def figure(self, arm: str, measure: str) -> Interval:
        """The value of an arm with its interval over faces and trainings."""
        if (arm, measure) not in self._kept:
            self._kept[arm, measure] = self._figure(self.arms[arm], measure)
        return self._kept[arm, measure]

    def difference(self, comparison: Comparison) -> Interval:
        """`ours` minus `theirs`, paired by face and by seed; raises StudyError where they have predicted different images."""
        ours, theirs = self.arms[comparison.ours], self.arms[comparison.theirs]
        if ours.ids != theirs.ids:
            raise StudyError(f"{comparison.name}: the arms have predicted different images and cannot be paired")
        if ours.probabilities is None or theirs.probabilities is None:
            shares = (arm.shares(comparison.measure) for arm in (ours, theirs))
            return share_difference(*shares, groups=ours.groups, **self._settings)
        metric = METRICS[comparison.measure]
        return repeated_difference(metric, ours.truth, ours.probabilities, theirs.probabilities, groups=ours.groups, **self._settings)

    def all_figures(self) -> dict[str, dict[str, Interval]]:
        """Every measure of every arm."""
        return {arm: {measure: self.figure(arm, measure) for measure in self.measures(arm)} for arm in self.arms}

    def _figure(self, repeats: Repeats, measure: str) -> Interval:
        if measure in repeats.measures:
            return repeated_share(*repeats.shares(measure), groups=repeats.groups, **self._settings)
        if repeats.probabilities is None or measure not in METRICS:
            return _as_interval(repeats.outcomes[0].metrics[measure])
        return repeated_interval(METRICS[measure], repeats.truth, repeats.probabilities, groups=repeats.groups, **self._settings)

    @property
    def _settings(self) -> Bootstrap:
        return {"resamples": self.section.bootstrap, "confidence": self.section.confidence, "seed": self.seed}


def verdict(found: Interval) -> str:
    """What an interval says of a difference, in words."""
    if found.low > 0:
        return "higher"
    if found.high < 0:
        return "lower"
    return "inside the interval: no difference can be told"


def _as_interval(metric: Metric) -> Interval:
    assert metric.low is not None and metric.high is not None, "a figure without an interval is none"
    return Interval(metric.value, metric.low, metric.high, metric.n or 0)
