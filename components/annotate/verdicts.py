"""From members' scores to one verdict an image: labelled images with their label as a witness, the others without, unreadable ones none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from components.annotate.opinion import MEMBER, pool_with, with_opinion
from components.annotate.scores import Scores
from synfer.annotation.calibration import as_scores
from synfer.annotation.rectifier import HeldOut, Rectified, rectify_labels
from synfer.annotation.rectify import ACTIONS
from synfer.config import Rectification
from synfer.errors import SynferError

REJECT = ACTIONS.index("reject")


class AnnotateError(SynferError):
    """A call that cannot be answered; the message says what is missing."""


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What is made of N images in the order of the source; an image that could not be read is rejected, with NaN for every number.

    `given` are class indices (N,), -1 for none; `pooled` (N, K) is what the members see without regard to the given label, `posterior`
    (N, K) with it; `labelled` and `unlabelled` are the fits behind the two groups, None where a group is empty.
    """

    classes: tuple[str, ...]
    sample_ids: list[str]
    given: np.ndarray
    readable: np.ndarray
    pooled: np.ndarray
    posterior: np.ndarray
    action: np.ndarray
    agreement: np.ndarray
    entropy: np.ndarray
    reasons: list[str]
    probabilities: Mapping[str, np.ndarray]
    labelled: Rectified | None
    unlabelled: Rectified | None

    @property
    def fits(self) -> Rectified:
        """The fits of the labelled images, or of the unlabelled ones where none has a label; both have one pool, not one threshold."""
        found = self.labelled or self.unlabelled
        assert found is not None, "a source without a readable image has no verdicts"
        return found

    @property
    def groups(self) -> dict[str, Rectified | None]:
        """The fits of both groups by name."""
        return {"labelled": self.labelled, "unlabelled": self.unlabelled}

    @property
    def label(self) -> np.ndarray:
        """First choice of the posterior (N,), -1 where the image could not be read."""
        return np.where(self.readable, np.nan_to_num(self.posterior).argmax(axis=1), -1)

    @property
    def confidence(self) -> np.ndarray:
        """Its probability (N,)."""
        return self.posterior.max(axis=1)

    @property
    def weight(self) -> np.ndarray:
        """Training weight (N,): 0 for a rejected image, else 1."""
        return (self.action != REJECT).astype(np.float32)

    @property
    def has_label(self) -> np.ndarray:
        """Readable images that came with a label, bool (N,)."""
        return self.readable & (self.given >= 0)

    @property
    def quality(self) -> np.ndarray:
        """Posterior probability of the given label (N,), cleanlab's self-confidence; NaN where there is none."""
        chosen = self.posterior[np.arange(len(self.given)), np.maximum(self.given, 0)]
        return np.where(self.has_label, chosen, np.nan)

    @property
    def is_issue(self) -> np.ndarray:
        """Whether another label than the given one is the likeliest, bool (N,); False where none was given."""
        return self.has_label & (self.label != self.given)


def judge_scores(
    scores: Scores,
    held_out: HeldOut,
    section: Rectification,
    *,
    classes: Sequence[str],
    seed: int,
    own: np.ndarray | None = None,
) -> Verdicts:
    """Rectify labelled and unlabelled images, each group with thresholds of its own.

    `own` (N, K) are the probabilities of the user's model; where `held_out` has its scores too, it is a member like the others. Raises
    AnnotateError if no image could be read.
    """
    if not scores.readable.any():
        raise AnnotateError(f"none of the {len(scores.sample_ids)} images could be read")
    place = {name: index for index, name in enumerate(classes)}
    given = np.array([place.get(name, -1) for name in scores.given])
    labelled = _group(scores, given, given >= 0, held_out, section, classes=classes, seed=seed, own=own)
    unlabelled = _group(scores, given, given < 0, held_out, section, classes=classes, seed=seed, own=own)
    return _gather(scores, given, tuple(classes), labelled, unlabelled)


@dataclass(frozen=True, eq=False)
class _Group:
    """Rows (n,) of the source that were judged together, what came of it, and the pool (n, K) of what was seen."""

    rows: np.ndarray
    result: Rectified
    pooled: np.ndarray


def _group(
    scores: Scores,
    given: np.ndarray,
    wanted: np.ndarray,
    held_out: HeldOut,
    section: Rectification,
    *,
    classes: Sequence[str],
    seed: int,
    own: np.ndarray | None,
) -> _Group | None:
    """The readable ones of the `wanted` rows, judged; None where there is none."""
    rows = np.flatnonzero(wanted & scores.readable)
    if not len(rows):
        return None
    members = {name: table[rows] for name, table in scores.members.items()}
    if own is not None and MEMBER in held_out.members:
        members[MEMBER] = as_scores(own[rows])
    labels = given[rows] if given[rows[0]] >= 0 else None
    result = rectify_labels(
        members, labels, held_out, classes=classes, pool=section.pool, intent_strength=section.intent_strength,
        equal_margins=False, target_precision=section.target_precision, min_coverage=section.min_coverage, seed=seed, origin="given",
    )  # fmt: skip
    pooled = result.pool.likelihood(members)
    if own is not None and MEMBER not in members:
        pooled = pool_with(pooled, own[rows], mean_weight=float(np.mean(list(result.pool.weights.values()))))
        result = with_opinion(result, pooled, labels, own[rows], strength=result.intent_strength)
    return _Group(rows, result, pooled)


def _gather(scores: Scores, given: np.ndarray, classes: tuple[str, ...], labelled: _Group | None, unlabelled: _Group | None) -> Verdicts:
    """Both groups in the order of the source."""
    groups = [group for group in (labelled, unlabelled) if group is not None]
    count, wide = len(scores.sample_ids), (len(scores.sample_ids), len(classes))
    pooled, posterior = np.full(wide, np.nan), np.full(wide, np.nan)
    probabilities = {name: np.full(wide, np.nan) for name in sorted(groups[0].result.probabilities)}
    action, agreement, entropy = np.full(count, REJECT), np.full(count, np.nan), np.full(count, np.nan)
    reasons = [f"cannot be read: {error}" if error else "" for error in scores.errors]
    for group in groups:
        rows, result = group.rows, group.result
        pooled[rows], posterior[rows] = group.pooled, result.posterior
        action[rows], agreement[rows], entropy[rows] = result.decisions.action, result.decisions.agreement, result.decisions.entropy
        for name, table in result.probabilities.items():
            probabilities[name][rows] = table
        for row, reason in zip(rows, result.reasons, strict=True):
            reasons[row] = reason
    return Verdicts(
        classes, scores.sample_ids, given, scores.readable, pooled, posterior, action, agreement, entropy, reasons, probabilities,
        labelled.result if labelled else None, unlabelled.result if unlabelled else None,
    )  # fmt: skip
