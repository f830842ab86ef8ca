"""What one may do with noisy labels: nothing, ask one classifier, vote, confident learning (cleanlab), or ours.

- single, mean_vote, majority: SynFER's rule. Where the predictions disagree with the label they replace it: by the best annotator's choice,
  by the choice of the mean, by a class that more than half of the members choose.
- cleanlab (Northcutt et al. 2021): out-of-fold probabilities of a logistic regression on an annotator's frozen features, trained on the
  noisy labels, folds by person; the issues that it finds are relabelled by a second round trained without them, as its CleanLearning does,
  or pruned.
- cleanlab_pool: the same issues search, given the calibrated pool of our members, which have not learned from these labels at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cleanlab.filter import find_label_issues
from scipy.stats import mode
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from benchmarks.rectification.faces import FEATURES, Faces
from synfer.annotation.calibration import scale
from synfer.annotation.rectifier import HeldOut, Rectified, rectify_labels
from synfer.config import Rectification

_FOLDS = 5
_INVERSE_PENALTY = 0.01  # the best of 0.001, 0.01, 0.1 and 1 on these faces: a weaker penalty learns the noise by heart
_FILTERS = ("prune_by_noise_rate", "confident_learning", "both")


@dataclass(frozen=True)
class Correction:
    """Labels (N,) after a method, and which images it uses (N,); probabilities (N, K) where it has any to be calibrated."""

    labels: np.ndarray
    used: np.ndarray
    probabilities: np.ndarray | None = field(default=None)


def corrections(
    faces: Faces, given: np.ndarray, held_out: HeldOut, *, classes: Sequence[str], section: Rectification, seed: int
) -> dict[str, Correction]:
    """What every method makes of the labels `given` (N,) of the faces; `section` sets ours."""
    found = ours(faces, given, held_out, classes=classes, section=section, seed=seed)
    raw = np.stack([scale(scores, 1.0) for _, scores in sorted(faces.members.items())])
    return {
        "nothing": _all(given),
        "single": _all(scale(faces.members[FEATURES], 1.0).argmax(axis=1), scale(faces.members[FEATURES], 1.0)),
        "mean_vote": _all(raw.mean(axis=0).argmax(axis=1), raw.mean(axis=0)),
        "majority": _all(majority(raw.argmax(axis=2), given)),
        "cleanlab": cleanlab(faces, given),
        "cleanlab_pool": confident(given, pooled := found.pool(faces.members), pooled, faces.truth),
        "ours": Correction(found.decisions.label, found.decisions.weight > 0, found.posterior),
    }


def ours(
    faces: Faces, given: np.ndarray, held_out: HeldOut, *, classes: Sequence[str], section: Rectification, seed: int
) -> Rectified:
    """The library's rectification as the configuration sets it; the classes' true shares are not known to it."""
    return rectify_labels(
        faces.members, given, held_out, classes=classes, pool=section.pool, intent_strength=section.intent_strength, equal_margins=False,
        target_precision=section.target_precision, min_coverage=section.min_coverage, seed=seed, origin="given",
    )  # fmt: skip


def majority(choices: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Labels (N,): what more than half of the members choose, `choices` (M, N); the given label where there is no such class."""
    winner, count = mode(choices, axis=0)
    return np.where(2 * count > len(choices), winner, given)


def cleanlab(faces: Faces, given: np.ndarray) -> Correction:
    """Confident learning on a classifier that learns from the noisy labels."""
    everything = np.ones(len(given), dtype=bool)
    first, found = out_of_fold(faces, given, everything), []
    for rule in _FILTERS:
        second = out_of_fold(faces, given, ~issues(given, first, rule))
        found.append(confident(given, first, second, faces.truth, rules=(rule,)))
    return min(found, key=lambda correction: float((correction.labels != faces.truth).mean()))


def confident(
    given: np.ndarray, probabilities: np.ndarray, corrector: np.ndarray, truth: np.ndarray, *, rules: Sequence[str] = _FILTERS
) -> Correction:
    """Issues relabelled by the choice of `corrector` (N, K); of several ways to look for issues, the one that the truth favours most.

    So the rival is given the best of its settings in hindsight. `used` are the images that it would not prune.
    """
    found = []
    for rule in rules:
        wrong = issues(given, probabilities, rule)
        found.append(Correction(np.where(wrong, corrector.argmax(axis=1), given), ~wrong, probabilities))
    return min(found, key=lambda correction: float((correction.labels != truth).mean()))


def issues(given: np.ndarray, probabilities: np.ndarray, rule: str) -> np.ndarray:
    """Which labels (N,) cleanlab takes to be wrong."""
    return np.asarray(find_label_issues(given, probabilities, filter_by=rule, n_jobs=1))


def out_of_fold(faces: Faces, given: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) of a logistic regression on frozen features that has learned from the trusted labels of other people."""
    found = np.zeros((len(given), faces.members[FEATURES].shape[1]))
    for train, test in GroupKFold(_FOLDS).split(faces.features, given, faces.identities):
        rows = train[trusted[train]]
        model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=500).fit(faces.features[rows], given[rows])
        found[np.ix_(test, model.classes_)] = model.predict_proba(faces.features[test])
    return found


def _all(labels: np.ndarray, probabilities: np.ndarray | None = None) -> Correction:
    return Correction(labels, np.ones(len(labels), dtype=bool), probabilities)
