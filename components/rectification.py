"""Stage rectification: what FERAnno and the annotators see in each generated face, pooled with what was asked, gives label and action.

Everything is calibrated and every threshold chosen on val, whose intents are simulated (see `synfer.annotation.rectify`). The manifest
gains label, posterior, entropy, agreement, action, reason, weight and the members' calibrated probabilities `p_<member>`; all rows stay.
A softened row is to be trained on its posterior, a kept or relabelled one on its label. Where FERAnno reads AUs, `aus_seen` holds them, and
a face that grossly contradicts what was asked is softened instead of asserted (see `synfer.annotation.au_consistency`).

A face that was asked for a compound expression has no intent among the classes: its posterior is the members' alone, and where its two
parts together are as sure as a label must be, it is softened, never asserted as one of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.au_check import AuCheck, check_aus, held_out_aus
from components.executors.shards import actors_of, device_of
from components.feranno import PREDICTIONS
from components.member_scores import Onlooker, folder_scores, held_out_scores
from components.rectification_record import Outcome, record_outcome
from synfer.annotation.au_consistency import soften_contradicting
from synfer.annotation.reasons import NO_LABEL, what_members_see
from synfer.annotation.rectifier import Rectified, rectify_labels
from synfer.annotation.rectify import ACTIONS
from synfer.classifiers.examples import class_indices
from synfer.config import Common, Rectification
from synfer.manifest import read_manifest, stack, write_manifest
from synfer.seeding import derive_seed
from synfer.vocabulary import COMPOUNDS, EXPRESSIONS

_SCORES = "scores"  # of an unfinished run alone


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
    actors = actors_of(section, common)
    onlooker = Onlooker(generator, feranno, fer_models, common, section.batch_size, device_of(actors, common))
    here = onlooker if actors is None else replace(onlooker, device="cpu")  # the GPU is the actors'
    held_out = held_out_scores(here.members, development=development, feranno=feranno, batch_size=section.batch_size)
    scores, aus = folder_scores(onlooker, synthesis, frame["sample_id"].tolist(), work=out / _SCORES, actors=actors)
    rectified = rectify_labels(
        scores, _intents(frame, classes), held_out, classes=classes, pool=section.pool,
        intent_strength=section.intent_strength, target_precision=section.target_precision, min_coverage=section.min_coverage,
        seed=derive_seed(common.seed, "rectification"),
    )  # fmt: skip
    if "compound" in frame.columns:
        rectified = with_compounds(rectified, frame["compound"].tolist())
    check = _au_check(frame, aus, development, feranno) if section.au_consistency else None
    if check is not None:
        rectified = without_contradictions(rectified, check)
        frame = frame.assign(aus_seen=list(check.seen))
    decided = with_decisions(frame, rectified)
    write_manifest(decided, out)
    outcome = Outcome(decided, rectified, held_out, section.min_coverage, check)
    record_outcome(outcome, images=synthesis, image_size=common.image_size, out=out)
    shutil.rmtree(out / _SCORES)


def _intents(frame: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Class index (N,) of what was asked, -1 for a compound expression, which is no class."""
    asked, intents = frame["expression"].to_numpy() != "", np.full(len(frame), -1)
    intents[asked] = class_indices(frame.loc[asked, "expression"].tolist(), classes)
    return intents


def with_compounds(rectified: Rectified, compounds: Sequence[str]) -> Rectified:
    """The same, but a face asked for a compound ("" for none) is softened where its label is one of the parts and both together are sure.

    Du et al. 2014 (doi 10.1073/pnas.1322355111): a compound expression shows the AUs of both its parts, so members are split between them.
    """
    decisions, classes, words = rectified.decisions, rectified.classes, list(rectified.reasons)
    action = decisions.action.copy()
    for row in (row for row, compound in enumerate(compounds) if compound):
        parts = COMPOUNDS[compounds[row]]
        shares = {part: float(rectified.posterior[row, classes.index(part)]) for part in parts}
        words[row] = words[row].replace(NO_LABEL, f"asked was {compounds[row]}")
        if classes[decisions.label[row]] in parts and sum(shares.values()) >= rectified.thresholds.reject_below:
            action[row] = ACTIONS.index("soften")
            seen = what_members_see({name: classes[int(found[row].argmax())] for name, found in rectified.probabilities.items()})
            soft = ", ".join(f"{part} {share:.2f}" for part, share in shares.items())
            words[row] = f"{seen}; soft label {soft}; asked was {compounds[row]}"
    return replace(rectified, decisions=replace(decisions, action=action), reasons=words)


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
