"""What an arm is worth: the judge's view, the guide's, realism, drift from the unguided faces, variety, cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.guidance.arms import UNGUIDED, Arm, Drawn
from components.fer_models import class_probabilities
from components.guidance import PUBLISHED, guide_probabilities
from synfer.classifiers.models import Classifier
from synfer.classifiers.predict import features
from synfer.config import Common
from synfer.diffusion.backbone import Backbone
from synfer.metrics.bootstrap import Interval, difference, interval, mean_interval, resampled
from synfer.metrics.classification import ACCURACY
from synfer.metrics.image import kid, precision


@dataclass(frozen=True, eq=False)
class Seen:
    """Faces as the models see them: judge and guide probabilities (N, K), the judge's features (N, D).

    The guide is the one that steers in this form, since only its verdict can be bought; for unguided faces it is the latent one.
    """

    judge: np.ndarray
    guide: np.ndarray
    features: np.ndarray


def look(arm: Arm, images: np.ndarray, *, backbone: Backbone, guide: Classifier, judge: Classifier, common: Common) -> Seen:
    """What judge and guide see in an arm's faces, uint8 (N, H, W, 3)."""
    if arm.form == PUBLISHED:
        opinion = class_probabilities(guide, images, common)
    else:
        opinion = guide_probabilities(backbone, images, common.expressions)
    return Seen(class_probabilities(judge, images, common), opinion, features(judge, images, device=backbone.device))


def measure(
    drawn: Mapping[Arm, Drawn], seen: Mapping[Arm, Seen], truth: np.ndarray, real: np.ndarray, *, wall: bool
) -> dict[Arm, dict[str, Interval]]:
    """Every figure of every arm; `truth` (N,) are the asked classes, `real` (M, D) the judge's features of real faces."""
    return {arm: _figures(arm, drawn, seen, truth, real, wall=wall) for arm in drawn}


def _figures(
    arm: Arm, drawn: Mapping[Arm, Drawn], seen: Mapping[Arm, Seen], truth: np.ndarray, real: np.ndarray, *, wall: bool
) -> dict[str, Interval]:
    found, plain = seen[arm], seen[UNGUIDED]
    return {
        "cost": cost(drawn[arm], drawn[UNGUIDED], wall=wall),
        "judge": interval(ACCURACY, truth, found.judge),
        "gain": difference(ACCURACY, truth, found.judge, plain.judge),
        "guide": interval(ACCURACY, truth, found.guide),
        "gap": difference(ACCURACY, truth, found.guide, found.judge),
        "precision": precision(real, found.features),
        "kid": kid(real, found.features),
        "drift": mean_interval(pixel_drift(drawn[arm].images, drawn[UNGUIDED].images)),
        "feature_drift": mean_interval(feature_drift(found.features, plain.features)),
        "diversity": mean_interval(class_distance(found.features, truth)),
    }


def cost(ours: Drawn, plain: Drawn, *, wall: bool) -> Interval:
    """Time of an arm over that of the unguided one, with its interval over batches."""
    mine, theirs = ((drawn.wall if wall else drawn.processor) for drawn in (ours, plain))
    (found,) = resampled(lambda rows: np.array([mine[rows].sum() / theirs[rows].sum()]), len(mine))
    return found


def pixel_drift(images: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each face (N,) from the unguided one of the same seed, in shares of the range of a pixel."""
    return np.abs(images.astype(np.float32) - plain.astype(np.float32)).mean(axis=(1, 2, 3)) / 255.0


def feature_drift(found: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Distance of each face (N,) from the unguided one in the judge's features, in shares of the mean distance of two unguided faces."""
    return np.linalg.norm(found - plain, axis=1) / _distances(plain)[np.triu_indices(len(plain), k=1)].mean()


def class_distance(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean distance of each face (N,) from the others of its class in the judge's features: variety within a class."""
    distances = _distances(found)
    same = (truth[:, None] == truth[None]) & ~np.eye(len(truth), dtype=bool)
    return np.where(same, distances, 0.0).sum(axis=1) / np.maximum(same.sum(axis=1), 1)


def _distances(found: np.ndarray) -> np.ndarray:
    """Euclidean distances (N, N) of rows (N, D)."""
    wide = found.astype(np.float64)
    squares = (wide**2).sum(axis=1)
    return np.sqrt(np.maximum(squares[:, None] + squares[None] - 2.0 * wide @ wide.T, 0.0))
