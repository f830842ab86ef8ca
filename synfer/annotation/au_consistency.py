"""AU consistency: does a face show the action units it was asked for? Only a gross contradiction counts, and false alarms have a rate.

An asked unit of 2.5 steps or more may be missing, one asked at 0 may be there. How far asked and seen may lie apart is chosen on
held-out faces whose AUs are known: the difference of each unit and direction is weighed by how rare it is there, the rarest one of a face
is its score, and the tolerance is the score that a share `false_alarms` of *faces* exceeds. The same rate for each unit would make every
fourth face suspicious where thirty units are compared at 1 %.

Rare differences are few, so their tail is taken for exponential beyond the 90th percentile (peaks over threshold, Pickands 1975, doi
10.1214/aos/1176343003). A face's score comes from tails that were fitted without it, and the limit is a conformal quantile (Lei et al.
2018, arXiv 1604.04173). With fewer than `1 / false_alarms` held-out faces it is infinite, and nothing contradicts.

Sided units are compared on each side: 12 at 3, and L12 and R12 at 3, are one face. NaN is unknown and contradicts nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from synfer.annotation.calibration import AnnotationError
from synfer.annotation.rectify import ACTIONS, Decisions
from synfer.vocabulary import AU_CODES, AU_COUNT, AU_INDEX, MAX_INTENSITY, SIDED_AUS

SIDE_CODES: tuple[str, ...] = tuple(code for code in AU_CODES if code not in SIDED_AUS)
"""The codes that are compared: every unit without sides, and the left and the right of those with sides."""

CLEARLY_ASKED = 2.5
"""Intensity from which an asked unit must be seen: between B, slight, and C, marked."""

GROSS = 2.0
"""Least difference in steps that is gross, however well a unit can be seen: two letters of FACS."""

_TAIL, _FOLDS, _LEAST_EXCESS = 0.1, 5, 1e-3
_FEWEST = 50
"""Held-out faces below which the tail of a unit's differences is not known and the unit is not judged in that direction."""

DIRECTIONS = ("missing", "extra")


def unit_of(code: str) -> str:
    """The unit of a code: 12 of 12, L12 and R12."""
    return code.lstrip("LR")


def side_intensities(aus: np.ndarray) -> np.ndarray:
    """Intensities (N, len(SIDE_CODES)) that AU vectors (N, AU_COUNT) show on each side, NaN where unknown.

    Unlike `vocabulary.shown_intensities` it takes a table without sides, such as OpenFace's: there L12 is unknown and 12 is that of both.
    """
    if aus.ndim != 2 or aus.shape[1] != AU_COUNT:
        raise AnnotationError(f"AU vectors must be (N, {AU_COUNT}), found {aus.shape}")
    own = aus[:, [AU_INDEX[code] for code in SIDE_CODES]].astype(np.float64)
    both = aus[:, [AU_INDEX[unit_of(code)] for code in SIDE_CODES]]
    return np.fmax(own, both)


def au_vectors(sides: np.ndarray, codes: Sequence[str]) -> np.ndarray:
    """AU vectors float32 (N, AU_COUNT) of intensities (N, len(codes)) by side, clipped to 0..5; NaN for units that `codes` lacks.

    Sided units come in canonical form: the common part in the bilateral entry, the stronger side in its own.
    """
    found = np.full((len(sides), AU_COUNT), np.nan, dtype=np.float32)
    found[:, [AU_INDEX[code] for code in codes]] = np.clip(sides, 0.0, MAX_INTENSITY)
    for unit in SIDED_AUS:
        common, left, right = (AU_INDEX[code] for code in (unit, f"L{unit}", f"R{unit}"))
        lower = np.minimum(found[:, left], found[:, right])
        found[:, common] = lower
        for side in (left, right):
            found[:, side] = np.where(found[:, side] > lower, found[:, side], np.where(np.isnan(lower), np.nan, 0.0))
    return found


@dataclass(frozen=True)
class Tolerance:
    """How far asked and seen may lie apart, in steps (2, len(SIDE_CODES)), rows as DIRECTIONS; infinite where it is not judged.

    `faces` held-out faces chose it for the rate `false_alarms`; both are 0 where somebody set it.
    """

    steps: np.ndarray
    false_alarms: float = 0.0
    faces: int = 0

    @classmethod
    def of(cls, steps: float) -> Tolerance:
        """The same tolerance for every unit, for a detector of which no held-out readings exist."""
        return cls(np.full((len(DIRECTIONS), len(SIDE_CODES)), float(steps)))


@dataclass(frozen=True)
class Contradictions:
    """What N faces were asked and show, (N, len(SIDE_CODES)), and by how much each difference exceeds its tolerance (NaN: it does not)."""

    asked: np.ndarray
    seen: np.ndarray
    excess: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Whether a face contradicts what was asked, bool (N,)."""
        return np.isfinite(self.excess).any(axis=1)

    @property
    def worst(self) -> np.ndarray:
        """The largest excess of each face, in steps (N,); 0 where nothing contradicts."""
        return np.nan_to_num(self.excess, nan=0.0).max(axis=1)

    def words(self, *, shown: int = 2) -> list[str]:
        """A clause a face, such as "asked AU 12 at 4.1, 0.2 is seen", the worst units first; empty where nothing contradicts."""
        return [self._clause(row, shown) for row in range(len(self.asked))]

    def _clause(self, row: int, shown: int) -> str:
        order = np.argsort(-np.nan_to_num(self.excess[row], nan=-np.inf), kind="stable")
        places: dict[str, list[int]] = {}
        for place in order[: np.isfinite(self.excess[row]).sum()]:
            places.setdefault(unit_of(SIDE_CODES[place]), []).append(int(place))
        clauses = [self._of_unit(row, found) for found in places.values()]
        more = [f"{len(clauses) - shown} more AUs contradict"] if len(clauses) > shown else []
        return "; ".join(clauses[:shown] + more)

    def _of_unit(self, row: int, places: list[int]) -> str:
        # Both sides of a unit are told as one unless they contradict in opposite directions, which takes an asymmetric wish.
        missing = {place: self.asked[row, place] > self.seen[row, place] for place in places}
        if len(set(missing.values())) > 1:
            return "; ".join(self._of_unit(row, [place]) for place in places)
        code = SIDE_CODES[places[0]]
        name = code if len(places) == 1 else unit_of(code)
        asked, seen = self.asked[row, places].mean(), self.seen[row, places].mean()
        return f"asked AU {name} at {asked:.1f}, {seen:.1f} is seen"


def choose_tolerance(
    asked: np.ndarray, seen: np.ndarray, *, readable: Sequence[str] = SIDE_CODES, false_alarms: float = 0.01
) -> Tolerance:
    """The tolerance at which a share `false_alarms` of held-out faces at most would contradict their known AUs.

    `asked` and `seen` are AU vectors (N, AU_COUNT), the known and the estimated ones; codes that are not `readable` are not judged. Faces
    of which nothing can be judged, such as those whose AUs nobody knows, have no say and are not counted.
    """
    if not 0 < false_alarms < 1:
        raise AnnotationError(f"the rate of false alarms is {false_alarms}; it must lie between 0 and 1")
    differences = _differences(*_compared(asked, seen))
    differences[..., [code not in readable for code in SIDE_CODES]] = np.nan
    differences = differences[:, np.isfinite(differences).any(axis=(0, 2))]
    faces = differences.shape[1]
    fold, scores = np.arange(faces) % _FOLDS, np.empty(faces)
    for number in range(_FOLDS):
        scores[fold == number] = _Tails.of(differences[:, fold != number]).rarest(differences[:, fold == number])
    limit = _conformal_quantile(scores, 1.0 - false_alarms)
    return Tolerance(np.maximum(_Tails.of(differences).steps(limit), GROSS), false_alarms, faces)


def contradictions(asked: np.ndarray, seen: np.ndarray, tolerance: Tolerance) -> Contradictions:
    """Where the AU vectors seen (N, AU_COUNT), by FERAnno or by any detector, grossly contradict the asked ones (N, AU_COUNT)."""
    wanted, found = _compared(asked, seen)
    excess = _differences(wanted, found) - tolerance.steps[:, None]
    excess = np.where(excess > 0, excess, -np.inf).max(axis=0)  # a unit is either clearly asked or asked at 0
    return Contradictions(wanted, found, np.where(np.isfinite(excess), excess, np.nan))


def soften_contradicting(decisions: Decisions, reasons: Sequence[str], found: Contradictions) -> tuple[Decisions, list[str]]:
    """Decisions and reasons of N faces in which none that contradicts its AUs is asserted: keep and relabel become soften.

    A reader of AUs errs more than the pool, so a contradiction alone rejects nothing; every reason names it.
    """
    keep, relabel, soften = (ACTIONS.index(name) for name in ("keep", "relabel", "soften"))
    asserted = found.found & np.isin(decisions.action, (keep, relabel))
    words = []
    for reason, clause, softened in zip(reasons, found.words(), asserted, strict=True):
        words.append("; ".join([reason, *([clause] if clause else []), *(["so the label is not asserted"] if softened else [])]))
    return replace(decisions, action=np.where(asserted, soften, decisions.action)), words


def _compared(asked: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(asked) != len(seen):
        raise AnnotationError(f"{len(asked)} faces were asked and {len(seen)} were looked at; they do not belong together")
    return side_intensities(asked), side_intensities(seen)


def _differences(asked: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Steps (2, N, codes) that are missing where clearly asked, and that are there where asked at 0; NaN where neither can be said."""
    missing = np.where(asked >= CLEARLY_ASKED, asked - seen, np.nan)
    extra = np.where(asked == 0, seen - asked, np.nan)
    return np.stack([missing, extra])


@dataclass(frozen=True)
class _Tails:
    """Exponential tails of the differences of every unit and direction: `start` and mean `excess` (2, codes); NaN where unknown."""

    start: np.ndarray
    excess: np.ndarray

    @classmethod
    def of(cls, differences: np.ndarray) -> _Tails:
        """The tails of differences (2, N, codes)."""
        count = np.isfinite(differences).sum(axis=1)
        known = np.where(count[:, None] >= _FEWEST, differences, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # units of which nothing is known stay NaN
            start = np.nanquantile(known, 1.0 - _TAIL, axis=1)
            excess = np.nanmean(np.where(known >= start[:, None], known - start[:, None], np.nan), axis=1)
        return cls(start, np.maximum(excess, _LEAST_EXCESS))

    def rarest(self, differences: np.ndarray) -> np.ndarray:
        """Scores (N,): minus the logarithm of how often a difference is as large, for the rarest gross one of each face; else -inf."""
        scores = -np.log(_TAIL) + (differences - self.start[:, None]) / self.excess[:, None]
        return np.where((differences >= GROSS) & ~np.isnan(scores), scores, -np.inf).max(axis=(0, 2))

    def steps(self, score: float) -> np.ndarray:
        """The differences (2, codes) that are as rare as a score; infinite where the tail is unknown."""
        steps = self.start + self.excess * (score + np.log(_TAIL))
        return np.where(np.isnan(steps), np.inf, steps)


def _conformal_quantile(scores: np.ndarray, share: float) -> float:
    """The smallest score that a new face from the same population exceeds with probability 1 - `share` at most; infinite for few scores."""
    rank = int(np.ceil((len(scores) + 1) * share))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")
