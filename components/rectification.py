"""Stage rectification: what FERAnno and the annotators see in each generated face, pooled with what was asked, gives label and action.

Everything is calibrated and every threshold chosen on val, whose intents are simulated (see `synfer.annotation.rectify`). The manifest
gains label, posterior, entropy, agreement, action, reason, weight and the members' calibrated probabilities `p_<member>`; all rows stay.
A softened row is to be trained on its posterior, a kept or relabelled one on its label. Where FERAnno reads AUs, `aus_seen` holds them, and
a face that grossly contradicts what was asked is softened instead of asserted (see `synfer.annotation.au_consistency`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.au_check import AuCheck, check_aus, held_out_aus
from components.feranno import PREDICTIONS
from components.member_scores import folder_scores, held_out_scores, load_members
from components.rectification_record import Outcome, record_outcome
from synfer.annotation.au_consistency import soften_contradicting
from synfer.annotation.rectifier import Rectified, rectify_labels
from synfer.annotation.rectify import ACTIONS
from synfer.classifiers.examples import class_indices
from synfer.config import Common, Rectification
from synfer.manifest import read_manifest, stack, write_manifest
from synfer.seeding import derive_seed
from synfer.vocabulary import EXPRESSIONS


def run(
    section: Rectification,
    common: Common,
    *,
    development: Path,
    generator: Path,
    synthesis: Path,
    feranno: Path,
    fer_models: Path,
    out: Path,
) -> None:
    """Write `manifest.parquet` with the rectified columns to `out`."""
    frame, classes = read_manifest(synthesis), common.expressions
    members = load_members(generator=generator, feranno=feranno, fer_models=fer_models, common=common)
    held_out = held_out_scores(members, development=development, feranno=feranno, batch_size=section.batch_size)
    scores, aus = folder_scores(members, synthesis, frame["sample_id"].tolist(), batch_size=section.batch_size)
    rectified = rectify_labels(
        scores, class_indices(frame["expression"].tolist(), classes), held_out, classes=classes, pool=section.pool,
        intent_strength=section.intent_strength, target_precision=section.target_precision, min_coverage=section.min_coverage,
        seed=derive_seed(common.seed, "rectification"),
    )  # fmt: skip
    check = _au_check(frame, aus, development, feranno) if section.au_consistency else None
    if check is not None:
        rectified = without_contradictions(rectified, check)
        frame = frame.assign(aus_seen=list(check.seen))
    decided = with_decisions(frame, rectified)
    write_manifest(decided, out)
    outcome = Outcome(decided, rectified, held_out, section.min_coverage, check)
    record_outcome(outcome, images=synthesis, image_size=common.image_size, out=out)


def _au_check(frame: pd.DataFrame, seen: np.ndarray, development: Path, feranno: Path) -> AuCheck | None:
    """The AUs seen in generated faces (N, AU_COUNT) against the asked ones; None where FERAnno's head reads none."""
    held_out = held_out_aus(development, feranno / PREDICTIONS)
    return None if held_out is None else check_aus(stack(frame, "aus"), seen, known=held_out[0], known_seen=held_out[1])


def without_contradictions(rectified: Rectified, check: AuCheck) -> Rectified:
    """The same, but no face that contradicts its AUs is asserted, and its reason says so."""
    decisions, reasons = soften_contradicting(rectified.decisions, rectified.reasons, check.contradictions)
    return replace(rectified, decisions=decisions, reasons=reasons)


def with_decisions(frame: pd.DataFrame, rectified: Rectified) -> pd.DataFrame:
    """The manifest with the columns that rectification adds; rows follow those that were rectified."""
    decisions, classes = rectified.decisions, rectified.classes
    return frame.assign(
        label=[classes[index] for index in decisions.label],
        posterior=over_expressions(rectified.posterior, classes, frame.index),
        entropy=decisions.entropy.astype(np.float32),
        agreement=decisions.agreement.astype(np.float32),
        action=[ACTIONS[index] for index in decisions.action],
        reason=rectified.reasons,
        weight=decisions.weight,
        **{f"p_{name}": over_expressions(found, classes, frame.index) for name, found in rectified.probabilities.items()},
    )


def over_expressions(probabilities: np.ndarray, classes: Sequence[str], index: pd.Index[Any]) -> pd.Series[Any]:
    """Rows (K,) spread over the vocabulary's expressions, as a column of a table with this index; those that are no class get 0."""
    wide = np.zeros((len(probabilities), len(EXPRESSIONS)), dtype=np.float32)
    wide[:, [EXPRESSIONS.index(name) for name in classes]] = probabilities
    return pd.Series(list(wide), index=index)
