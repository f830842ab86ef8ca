"""Memorisation: are generated images nearer to what their generator was trained on than to what it never saw?

Training and held-out references are of one distribution and equally many, and share no person, so that the nearest reference of an image
that copies nobody is a training one in half of all cases (Platzer & Reutterer 2021, arXiv 2104.00635; a held-out set as the yardstick of
copying: Meehan et al. 2020, arXiv 2004.05675). Other real images in place of the generated ones must give 0.5 as well: the control.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import adaptive_avg_pool2d

from synfer.errors import SynferError
from synfer.metrics.bootstrap import Interval, resampled
from synfer.metrics.proportions import proportion
from synfer.pixels import to_tensor

CLOSEST = 0.1
"""Share of the images, those nearest to any reference, that are also looked at by themselves."""

_CHUNK = 512


class MemorisationError(SynferError):
    """Sets that cannot be compared: of different width or size, or with people in common; the message gives what was found."""


@dataclass(frozen=True, eq=False)
class Memorisation:
    """Nearest references of M images.

    `share` is the share of images whose nearest reference is a training one (0.5: none is copied, 1: all are; a tie counts half); its
    interval comes from resampling the people of the nearest references. `share_closest` is the same of the tenth of the images that lie
    nearest to any reference: a few copies among many fresh images are all there, and move it far more. `training` and `held_out` int (M,)
    are the rows of the nearest image of each set, `training_distances` and `held_out_distances` float (M,) the distances to them.
    """

    share: Interval
    share_closest: Interval
    training: np.ndarray
    held_out: np.ndarray
    training_distances: np.ndarray
    held_out_distances: np.ndarray

    def closest(self, count: int) -> np.ndarray:
        """Rows of the `count` images that lie nearest to a training image, nearest first."""
        return np.argsort(self.training_distances, kind="stable")[:count]


def memorisation(
    images: np.ndarray,
    training: np.ndarray,
    held_out: np.ndarray,
    *,
    training_people: Sequence[str] | None = None,
    held_out_people: Sequence[str] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Memorisation:
    """Compare features of images (M, D) with those of training (N, D) and held-out (N, D) references by Euclidean distance.

    Chance deals people, not images, to the two sets, and some references are the nearest of many images, which are then no independent
    witnesses: intervals over images miss 0.5 in up to a quarter of fresh draws. So people are resampled; without names every reference is
    a person of its own. Memory grows with M + N.
    Raises MemorisationError if the sets differ in width, the references in number, or somebody is in both of them.
    """
    _check(images, training, held_out)
    people = _people(training_people, held_out_people, count=len(training))
    (seen_distances, seen), (unseen_distances, unseen) = (nearest_neighbours(images, found) for found in (training, held_out))
    values = np.where(seen_distances == unseen_distances, 0.5, seen_distances < unseen_distances)
    witnesses = people[np.where(seen_distances <= unseen_distances, seen, len(training) + unseen)]
    closest = np.argsort(np.minimum(seen_distances, unseen_distances), kind="stable")[: math.ceil(CLOSEST * len(values))]
    share, share_closest = (
        _share(values[rows], witnesses[rows], resamples=resamples, confidence=confidence, seed=seed) for rows in (slice(None), closest)
    )
    share_closest = _widened(share_closest, len(np.unique(witnesses[closest])), confidence=confidence)
    return Memorisation(share, share_closest, seen, unseen, seen_distances, unseen_distances)


def nearest_neighbours(images: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance (M,) to the nearest reference of each image, and its row (M,); exact, in chunks of bounded memory."""
    distances, rows = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(references).kneighbors(images)
    return distances[:, 0], rows[:, 0]


def downsampled(images: np.ndarray, *, side: int = 16) -> np.ndarray:
    """Pixel space: images uint8 (N, H, W, 3) averaged to `side` x `side`, float32 (N, side * side * 3).

    The Euclidean distance of two rows is the root mean square difference of their pixels on a scale of 0 to 1.
    """
    starts = range(0, len(images), _CHUNK)
    rows = [adaptive_avg_pool2d(to_tensor(images[start : start + _CHUNK]) / 2, side).flatten(1).numpy() for start in starts]
    return np.concatenate(rows) / np.float32(np.sqrt(3 * side * side)) if rows else np.zeros((0, 3 * side * side), np.float32)


def _share(values: np.ndarray, witnesses: np.ndarray, *, resamples: int, confidence: float, seed: int) -> Interval:
    """Mean of values (M,), with the interval over resamples of whole groups of images that have one witness (M,)."""
    groups, index = np.unique(witnesses, return_inverse=True)
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)

    def mean(rows: np.ndarray) -> np.ndarray:
        return np.array([sums[rows].sum() / sizes[rows].sum()])

    (found,) = resampled(mean, len(groups), resamples=resamples, confidence=confidence, seed=seed)
    return replace(found, n=len(values))


def _widened(share: Interval, witnesses: int, *, confidence: float) -> Interval:
    """At least Wilson's interval of so many witnesses: a few images may all be on one side by chance, which resampling cannot know."""
    wilson = proportion(round(share.value * witnesses), witnesses, confidence=confidence)
    return replace(share, low=min(share.low, wilson.low), high=max(share.high, wilson.high))


def _people(training: Sequence[str] | None, held_out: Sequence[str] | None, *, count: int) -> np.ndarray:
    """Person of every reference, int (2 * count,): the training ones first."""
    if training is None or held_out is None:
        return np.arange(2 * count)
    if (len(training), len(held_out)) != (count, count):
        raise MemorisationError(f"{len(training)} and {len(held_out)} people for {count} training and {count} held-out images")
    if shared := set(training) & set(held_out):
        raise MemorisationError(f"{min(shared)} is in the training and the held-out references ({len(shared)} people are in both)")
    return np.unique(np.array([*training, *held_out], dtype=str), return_inverse=True)[1]


def _check(images: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> None:
    shapes = ", ".join(str(found.shape) for found in (images, training, held_out))
    if not all(found.ndim == 2 and len(found) for found in (images, training, held_out)):
        raise MemorisationError(f"images, training and held-out references must be (M, D), (N, D) and (N, D), found {shapes}")
    if len({found.shape[1] for found in (images, training, held_out)}) > 1 or len(training) != len(held_out):
        raise MemorisationError(f"both references must be equally many, and all of one width, or 0.5 means nothing; found {shapes}")
