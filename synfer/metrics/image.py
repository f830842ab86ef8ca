"""Realism of a set of images against a real one, on penultimate features of a named classifier.

KID (Binkowski et al. 2018) is the unbiased squared MMD with the cubic kernel (x.y / d + 1)^3; it may be a little below zero. Its floor is
the KID of one half of the real images against the other. Improved precision and recall are those of Kynkaanniemi et al. 2019.
"""

from __future__ import annotations

import numpy as np

from synfer.errors import SynferError
from synfer.metrics.bootstrap import Interval, mean_interval


class FeatureError(SynferError):
    """Features that are too few or do not fit together; the message gives the shapes."""


def kid(
    real: np.ndarray, fake: np.ndarray, *, subsets: int = 100, subset_size: int = 250, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean KID over random subsets of features (N, D) and (M, D), and the interval that holds `confidence` of the subsets' values.

    The interval is the spread at the size of a subset (at most `subset_size`, at most half of the smaller set), so it is comparable with
    that of `kid_floor` and wider than the error of the mean. `n` is the number of fakes.
    """
    _check(real, fake)
    size = min(subset_size, len(real) // 2, len(fake) // 2)
    kernel = _kernel(np.concatenate([real, fake]))
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        rows, columns = rng.permutation(len(real))[:size], len(real) + rng.permutation(len(fake))[:size]
        values.append(_unbiased_mmd(kernel, rows, columns))
    return _spread(np.array(values), confidence, len(fake))


def kid_floor(real: np.ndarray, *, subsets: int = 100, subset_size: int = 250, confidence: float = 0.95, seed: int = 0) -> Interval:
    """KID of disjoint halves of the real features (N, D): what a perfect generator would score at this subset size."""
    _check(real, real)
    size = min(subset_size, len(real) // 2)
    kernel = _kernel(real)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(real)) for _ in range(subsets)]
    values = [_unbiased_mmd(kernel, order[:size], order[size : 2 * size]) for order in orders]
    return _spread(np.array(values), confidence, len(real))


def precision(real: np.ndarray, fake: np.ndarray, *, neighbours: int = 3, resamples: int = 1000, seed: int = 0) -> Interval:
    """Share of fakes (M, D) that lie within the manifold of the reals (N, D): realism."""
    _check(real, fake)
    return mean_interval(within_manifold(real, fake, neighbours=neighbours), resamples=resamples, seed=seed)


def recall(real: np.ndarray, fake: np.ndarray, *, neighbours: int = 3, resamples: int = 1000, seed: int = 0) -> Interval:
    """Share of reals (N, D) that lie within the manifold of the fakes (M, D): variety. It grows with M, so compare at equal numbers."""
    return precision(fake, real, neighbours=neighbours, resamples=resamples, seed=seed)


def within_manifold(manifold: np.ndarray, points: np.ndarray, *, neighbours: int = 3) -> np.ndarray:
    """Whether each point (M, D) is nearer to some sample of `manifold` (N, D) than that sample's k-th neighbour: bool (M,)."""
    own = _squared_distances(manifold, manifold)
    np.fill_diagonal(own, np.inf)  # a sample is not its own neighbour
    radii = np.partition(own, neighbours - 1, axis=1)[:, neighbours - 1]
    return np.asarray((_squared_distances(points, manifold) <= radii[None]).any(axis=1))


def _kernel(features: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float64)
    return (wide @ wide.T / features.shape[1] + 1.0) ** 3


def _unbiased_mmd(kernel: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    """Squared MMD between two disjoint sets of `kernel`'s entries; the diagonal is left out, which makes it unbiased."""
    size = len(rows)
    within = sum((block := kernel[np.ix_(part, part)]).sum() - np.trace(block) for part in (rows, columns)) / (size * (size - 1))
    return float(within - 2.0 * kernel[np.ix_(rows, columns)].mean())


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * a @ b.T, 0.0)


def _spread(values: np.ndarray, confidence: float, n: int) -> Interval:
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return Interval(float(values.mean()), float(low), float(high), n)


def _check(real: np.ndarray, fake: np.ndarray) -> None:
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 8:
        raise FeatureError(f"features must be (N, D) and (M, D) with at least 8 rows each, found {real.shape} and {fake.shape}")
