"""AU consistency of generated faces: which units FERAnno can be trusted to see, and which faces contradict what was asked.

Both are decided on val: a unit takes part when its readings agree with the known intensities (ICC(3,1) of `FLOOR` or more), and the
tolerance is the one that a share `FALSE_ALARMS` of the val faces exceeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from synfer.annotation.au_consistency import (
    DIRECTIONS,
    SIDE_CODES,
    Contradictions,
    Tolerance,
    choose_tolerance,
    contradictions,
    side_intensities,
    unit_of,
)
from synfer.annotation.calibration import AnnotationError
from synfer.manifest import read_manifest, stack
from synfer.metrics.agreement import icc, spearman
from synfer.vocabulary import AU_INDEX, AU_NAMES

SEEN = "aus_seen"
"""Column of the AU vectors that FERAnno reads, of generated faces and of those in its val predictions."""

FLOOR = 0.6
"""Least ICC on val of a unit that may contradict: "good" agreement after Cicchetti (1994, doi 10.1037/1040-3590.6.4.284)."""

FALSE_ALARMS = 0.01
"""Share of faces that may contradict by the reader's own errors."""

_FEWEST = 50  # val faces below which no agreement is measured


@dataclass(frozen=True)
class AuCheck:
    """N generated faces against their asked AUs: what is `seen` (N, AU_COUNT), NaN where not readable, and what contradicts.

    `reading` is the table of `au_reading` on the val faces, `tolerance` the one they chose.
    """

    seen: np.ndarray
    contradictions: Contradictions
    reading: pd.DataFrame
    tolerance: Tolerance

    def table(self) -> pd.DataFrame:
        """A row for every AU that FERAnno reads: its agreement on val, its tolerances, and the faces that contradict it."""
        places = [SIDE_CODES.index(code) for code in self.reading["AU"]]
        excess = self.contradictions.excess[:, places]
        tolerances = {
            f"tolerance, {name}": ["not judged" if np.isinf(found) else f"{found:.1f}" for found in steps[places]]
            for name, steps in zip(DIRECTIONS, self.tolerance.steps, strict=True)
        }
        return self.reading.assign(**tolerances, contradictions=np.isfinite(excess).sum(axis=0))


def check_aus(asked: np.ndarray, seen: np.ndarray, *, known: np.ndarray, known_seen: np.ndarray) -> AuCheck:
    """Compare asked and seen AU vectors (N, AU_COUNT) of generated faces, as far as the reader is right on val faces.

    `known` and `known_seen` are those of the val faces (M, AU_COUNT); the reader may be FERAnno or any detector, NaN where it says nothing.
    """
    reading = au_reading(known, known_seen)
    readable = tuple(reading.loc[reading["readable"], "AU"])
    tolerance = choose_tolerance(known, known_seen, readable=readable, false_alarms=FALSE_ALARMS)
    units = {unit_of(code) for code in readable}
    visible = np.array([unit_of(code) in units for code in AU_INDEX])
    seen = np.where(visible, seen, np.nan).astype(np.float32)
    return AuCheck(seen, contradictions(asked, seen, tolerance), reading, tolerance)


def au_reading(known: np.ndarray, seen: np.ndarray) -> pd.DataFrame:
    """How far AU vectors seen agree with the known ones (N, AU_COUNT): a row for every code of SIDE_CODES that is seen at all.

    A sided unit is readable where both its sides are.
    """
    rows = []
    truth, found = side_intensities(known), side_intensities(seen)
    for place, code in enumerate(SIDE_CODES):
        if np.isfinite(found[:, place]).any():
            both = np.isfinite(truth[:, place]) & np.isfinite(found[:, place])
            rows.append((code, AU_NAMES[code], int(both.sum()), *_agreement(truth[both, place], found[both, place])))
    table = pd.DataFrame(rows, columns=["AU", "name", "val faces", "ICC", "Spearman", "MAE"])
    good = (table["ICC"] >= FLOOR) & (table["val faces"] >= _FEWEST)
    return table.assign(readable=good.groupby(table["AU"].map(unit_of)).transform("all").astype(bool))


def _agreement(truth: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """ICC, Spearman's correlation and mean absolute error in steps of two (N,); NaN for fewer than two faces."""
    if len(truth) < 2:
        return float("nan"), float("nan"), float("nan")
    return icc(np.stack([truth, found], axis=1)), spearman(truth, found), float(np.abs(truth - found).mean())


def held_out_aus(development: Path, predictions: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Known and seen AU vectors (M, AU_COUNT) of the val faces of FERAnno's stage; None where its head reads no AUs.

    Raises AnnotationError naming a face that the corpus does not know.
    """
    left = pq.read_table(predictions).to_pandas()
    if SEEN not in left.columns:
        return None
    known = read_manifest(development).set_index("sample_id")
    if strange := set(left["sample_id"]) - set(known.index):
        raise AnnotationError(f"{development} knows no sample {min(strange)!r} of {predictions}; FERAnno was trained on another corpus")
    return stack(known.loc[left["sample_id"]], "aus"), stack(left, SEEN)
