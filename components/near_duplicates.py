"""Near-duplicates among many images by their perceptual hashes: exact, in tiles of bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from components.validation_facts import NEAR

_ROWS, _COLUMNS = 256, 4096  # of a tile: 8 MB of 64-bit words


def near_duplicate_clusters(hashes: Sequence[tuple[int, ...]], *, radius: int = NEAR) -> np.ndarray:
    """Cluster of every image, int (N,): in one are images that a chain of hashes joins, each at most `radius` bits from the next."""
    if not hashes:
        return np.zeros(0, dtype=np.int64)
    distinct, place = np.unique(np.array(hashes, dtype=np.uint64), axis=0, return_inverse=True)
    cluster = np.arange(len(distinct))
    for start in tqdm(range(0, len(distinct), _ROWS), desc="near-duplicates", unit="block", leave=False):
        rows, columns = _near(distinct, start, radius)
        cluster = _joined(cluster, cluster[rows], cluster[columns])
    return cluster[place.ravel()]


def _near(words: np.ndarray, start: int, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the block at `start` and later rows (M,), (M,) whose hashes are near; most pairs differ enough in their first word."""
    block = words[start : start + _ROWS]
    found = []
    for left in range(start, len(words), _COLUMNS):
        tile = words[left : left + _COLUMNS]
        rows, columns = np.nonzero(np.bitwise_count(block[:, None, 0] ^ tile[None, :, 0]) <= radius)
        distance = np.bitwise_count(block[rows] ^ tile[columns]).sum(axis=1)
        found.append(np.stack([rows[distance <= radius] + start, columns[distance <= radius] + left]))
    rows, columns = np.concatenate(found, axis=1)
    return rows, columns


def _joined(cluster: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Clusters (N,) after those of each pair have become one."""
    apart = first != second
    if not apart.any():
        return cluster
    edges = coo_array((np.ones(apart.sum(), dtype=bool), (first[apart], second[apart])), shape=(cluster.max() + 1,) * 2)
    return connected_components(edges, directed=False)[1][cluster]
