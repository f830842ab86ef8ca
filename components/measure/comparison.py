"""Two runs against each other on the images that both rated: every metric with its paired difference, and McNemar's test."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.classifier_scores import TITLES
from components.intervals import cell
from components.measure.predictions import Predictions, paired
from synfer.files import write_json
from synfer.metrics.bootstrap import Interval, difference, interval
from synfer.metrics.classification import METRICS, Metric, recall_of
from synfer.metrics.mcnemar import McNemar, mcnemar


@dataclass(frozen=True)
class Row:
    """One metric of both and the first minus the second."""

    ours: Interval
    theirs: Interval
    difference: Interval


@dataclass(frozen=True)
class Comparison:
    """Rows by metric; `classes` are the recalls, each with the number of its images.

    Intervals are over the `people` on the images where the predictions name them (None: over images). McNemar's test takes every image for
    a witness of its own, so that its p-value is too small where people have several.
    """

    ours: str
    theirs: str
    n: int
    metrics: dict[str, Row]
    classes: dict[str, Row]
    test: McNemar
    people: int | None = None

    def table(self) -> pd.DataFrame:
        """The comparison as people read it."""
        rows = [(TITLES[name], row) for name, row in self.metrics.items()]
        rows += [(f"recall of {name} (n={row.ours.n})", row) for name, row in self.classes.items()]
        return pd.DataFrame(
            [
                {
                    "metric": title, "A": cell(row.ours), "B": cell(row.theirs), "A minus B": cell(row.difference, signed=True),
                    "verdict": "differs" if row.difference.excludes_zero else "within the noise",
                }
                for title, row in rows
            ]
        )  # fmt: skip

    def write(self, path: Path) -> Path:
        """Write everything as JSON; returns the path."""
        about: dict[str, Any] = {"a": self.ours, "b": self.theirs, "n": self.n, "people": self.people, "mcnemar": asdict(self.test)}
        rows = {kind: {name: asdict(row) for name, row in part.items()} for kind, part in self._parts()}
        return write_json(path, {**about, **rows})

    def _parts(self) -> tuple[tuple[str, dict[str, Row]], ...]:
        return ("metrics", self.metrics), ("recall", self.classes)


def compare(first: Predictions, second: Predictions, *, resamples: int, confidence: float, seed: int) -> Comparison:
    """Compare two predictions; raises PredictionsError unless they rated the same images with the same truth."""
    ours, theirs = paired(first, second)
    people = ours.people or theirs.people
    settings: dict[str, Any] = {"groups": people, "resamples": resamples, "confidence": confidence, "seed": seed}
    counts = np.bincount(ours.truth, minlength=len(ours.classes))
    there = [(index, name) for index, name in enumerate(ours.classes) if counts[index]]
    recalls = {name: _row(recall_of(index), ours, theirs, settings, n=int(counts[index])) for index, name in there}
    metrics = {name: _row(metric, ours, theirs, settings) for name, metric in METRICS.items()}
    test = mcnemar(ours.truth, ours.probabilities, theirs.probabilities)
    return Comparison(ours.title, theirs.title, len(ours.truth), metrics, recalls, test, None if people is None else len(set(people)))


def _row(metric: Metric, ours: Predictions, theirs: Predictions, settings: dict[str, Any], *, n: int | None = None) -> Row:
    both = [interval(metric, ours.truth, part.probabilities, **settings) for part in (ours, theirs)]
    both.append(difference(metric, ours.truth, ours.probabilities, theirs.probabilities, **settings))
    return Row(*(Interval(found.value, found.low, found.high, found.n if n is None else n) for found in both))
