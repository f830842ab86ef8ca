"""Part 2: noise of an unknown rate in the labels of faces whose truth is known, and what every method leaves of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.rectification.faces import Faces
from benchmarks.rectification.noise import KINDS, inject
from benchmarks.rectification.rivals import Correction, corrections, ours
from synfer.annotation.calibration import reliability
from synfer.annotation.rectifier import HeldOut
from synfer.config import Rectification
from synfer.metrics.bootstrap import Interval, resampled
from synfer.seeding import derive_seed

RATES = (0.1, 0.2, 0.4)
OURS, RIVAL, STRICT = "ours", "cleanlab", 0.99
"""`STRICT` is a second target precision, high enough that faces must be rejected for it."""

RESAMPLES = 1000


@dataclass(frozen=True)
class Trial:
    """One run: faces (N,) whose label is wrong after each method, the images it uses, and a row of figures a method.

    `strict` and `surest` are ours (N,) with NaN for faces left out: under the strict target, and of as many as cleanlab does not prune.
    """

    kind: str
    rate: float
    before: np.ndarray
    after: dict[str, np.ndarray]
    used: dict[str, np.ndarray]
    figures: pd.DataFrame
    strict: np.ndarray
    surest: np.ndarray
    estimated: float


def trials(faces: Faces, held_out: HeldOut, *, classes: Sequence[str], section: Rectification, seeds: int) -> list[Trial]:
    """Every kind and rate of noise, `seeds` times."""
    wanted = tqdm(list(product(KINDS, RATES, range(seeds))), desc="noise", unit="trial")
    return [trial(faces, held_out, kind, rate, seed, classes=classes, section=section) for kind, rate, seed in wanted]


def trial(
    faces: Faces, held_out: HeldOut, kind: str, rate: float, seed: int, *, classes: Sequence[str], section: Rectification
) -> Trial:
    """Put noise into the labels of the faces and let every method correct them; none is told the rate. `section` sets ours."""
    root = derive_seed("rectification", kind, rate, seed)
    given = inject(faces.truth, rate, kind, classes=classes, seed=root)
    found = corrections(faces, given, held_out, classes=classes, section=section, seed=root)
    stricter = section.model_copy(update={"target_precision": STRICT})
    strict = ours(faces, given, held_out, classes=classes, section=stricter, seed=root)
    rows = [{"method": name, "kind": kind, "rate": rate, "seed": seed, **figures(c, given, faces.truth)} for name, c in found.items()]
    after = found[OURS].labels != faces.truth
    return Trial(
        kind, rate, given != faces.truth, {name: c.labels != faces.truth for name, c in found.items()},
        {name: c.used for name, c in found.items()}, pd.DataFrame(rows), _where(strict.decisions.weight > 0, after),
        _where(_surest(found[OURS], int(found[RIVAL].used.sum())), after), strict.noise.wrong if strict.noise else float("nan"),
    )  # fmt: skip


def figures(correction: Correction, given: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Error of all images and of those used, coverage, precision and recall of the errors found, ECE of the method's probabilities.

    An error is found where the label was changed or the image left out.
    """
    wrong, found = given != truth, (correction.labels != given) | ~correction.used
    after = correction.labels != truth
    probabilities = correction.probabilities
    return {
        "after": float(after.mean()),
        "after_used": float(after[correction.used].mean()),
        "coverage": float(correction.used.mean()),
        "found_precision": float(wrong[found].mean()) if found.any() else float("nan"),
        "found_recall": float(found[wrong].mean()),
        "ece": float("nan") if probabilities is None else reliability(probabilities, truth).ece,
    }


def _where(used: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    return np.where(used, wrong, np.nan)


def _surest(correction: Correction, count: int) -> np.ndarray:
    """Whether an image (N,) is among the `count` of which the method is surest."""
    if correction.probabilities is None:
        raise ValueError("a method without probabilities is equally sure of all images")
    used = np.zeros(len(correction.labels), dtype=bool)
    used[np.argsort(-correction.probabilities.max(axis=1), kind="stable")[:count]] = True
    return used


@dataclass(frozen=True)
class Summary:
    """Means over trials with 95 % intervals; whole people are resampled, for a person's faces err together."""

    people: np.ndarray

    def mean(self, wrong: Iterable[np.ndarray]) -> Interval:
        """Share of wrong faces over trials of the same faces, each (N,); NaN where a face is left out."""
        table = np.stack([np.asarray(row, dtype=np.float64) for row in wrong])
        return self._ratio(np.nansum(table, axis=0), (~np.isnan(table)).sum(axis=0))

    def difference(self, ours: Iterable[np.ndarray], theirs: Iterable[np.ndarray]) -> Interval:
        """Share wrong of ours minus that of theirs, paired by face and trial."""
        table = np.stack(list(ours)).astype(np.float64) - np.stack(list(theirs)).astype(np.float64)
        return self._ratio(table.sum(axis=0), np.full(table.shape[1], len(table)))

    def _ratio(self, total: np.ndarray, count: np.ndarray) -> Interval:
        totals, counts = (np.bincount(self.people, values.astype(np.float64)) for values in (total, count))

        def share(rows: np.ndarray) -> np.ndarray:
            return np.array([totals[rows].sum() / max(counts[rows].sum(), 1.0)])

        return resampled(share, len(totals), resamples=RESAMPLES)[0]


def summary(found: Sequence[Trial], faces: Faces) -> dict[str, Interval]:
    """`error_before_20`, `error_after_20`, `<method>_after_20`, `less_than_<method>_20`, `reduction_20` and the like at every rate."""
    over = Summary(np.unique(faces.identities, return_inverse=True)[1])
    keys: dict[str, Interval] = {}
    for rate in RATES:
        at, percent = [one for one in found if one.rate == rate], round(100 * rate)
        keys |= {f"{name}_{percent}": value for name, value in _at_rate(at, over).items()}
        for kind in KINDS:
            of_kind = [one for one in at if one.kind == kind]
            for method in of_kind[0].after:
                keys[f"{method}_after_{percent}_{kind}"] = over.mean(one.after[method] for one in of_kind)
            keys[f"noise_found_{percent}_{kind}"] = _plain([one.estimated for one in of_kind])
    return keys | _precision(found, over)


def _at_rate(at: Sequence[Trial], over: Summary) -> dict[str, Interval]:
    before, after = [one.before for one in at], [one.after[OURS] for one in at]
    keys = {"error_before": over.mean(before), "error_after": over.mean(after), "noise_found": _plain([one.estimated for one in at])}
    for method in at[0].after:
        if method not in (OURS, "nothing"):
            theirs = [one.after[method] for one in at]
            keys |= {f"{method}_after": over.mean(theirs), f"more_than_{method}": over.difference(after, theirs)}
    keys[f"{RIVAL}_pruned"] = over.mean(_where(one.used[RIVAL], one.after[RIVAL]) for one in at)
    keys[f"error_after_as_{RIVAL}_pruned"] = over.mean(one.surest for one in at)
    left = keys["error_after"]
    share = keys["error_before"].value
    keys["reduction"] = Interval(1 - left.value / share, 1 - left.high / share, 1 - left.low / share, left.n)
    return keys


def _precision(found: Sequence[Trial], over: Summary) -> dict[str, Interval]:
    """Precision of the labels that are used under the target and under the strict one: over all trials, and in the worst setting."""
    settings = sorted({(one.kind, one.rate) for one in found})
    right: dict[str, Callable[[Trial], np.ndarray]] = {
        "precision_test": lambda one: np.where(one.used[OURS], ~one.after[OURS], np.nan),
        "precision_test_strict": lambda one: 1.0 - one.strict,
    }
    keys: dict[str, Interval] = {}
    for name, of_trial in right.items():
        by_setting = [over.mean(of_trial(one) for one in found if (one.kind, one.rate) == setting) for setting in settings]
        keys |= {name: over.mean(map(of_trial, found)), f"{name}_worst": min(by_setting, key=lambda value: value.value)}
    return keys | {"coverage_test_strict": over.mean((~np.isnan(one.strict)).astype(float) for one in found)}


def _plain(values: Sequence[float]) -> Interval:
    """Mean of a figure of whole trials; of so few there is no interval."""
    mean = float(np.mean(values))
    return Interval(mean, mean, mean, len(values))
