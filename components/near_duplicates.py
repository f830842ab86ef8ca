"""Near-duplicates among many images by their perceptual hashes: exact, without comparing every pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import imagehash
import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

HASH_SIDE = 16
NEAR = 20
"""Bits of 256 in which the perceptual hashes of near-duplicates differ at most: a noisy copy of a rendered face of 64 pixels differs in
up to 14, two of 420 rendered faces in 44 or more."""


def perceptual_hash(pixels: np.ndarray) -> tuple[int, ...]:
    """DCT hash of an RGB image uint8 (H, W, 3) as 64-bit words."""
    bits = imagehash.phash(Image.fromarray(pixels), hash_size=HASH_SIDE).hash.ravel()
    return tuple(int.from_bytes(np.packbits(word).tobytes(), "big") for word in bits.reshape(-1, 64))


def near_duplicates(hashes: pd.Series) -> np.ndarray:
    """Whether an earlier image lies in the same cluster, bool (N,); an image without a hash is no duplicate."""
    known = np.flatnonzero(hashes.notna())
    cluster = near_duplicate_clusters(hashes.iloc[known].tolist())
    duplicate = np.zeros(len(hashes), dtype=bool)
    duplicate[known] = pd.Series(cluster).duplicated().to_numpy()
    return duplicate


def near_duplicate_clusters(hashes: Sequence[tuple[int, ...]], *, radius: int = NEAR) -> np.ndarray:
    """Cluster of every image, int (N,): in one are images that a chain of hashes joins, each at most `radius` bits from the next.

    The bits are dealt to `radius` + 1 bands. Two hashes that differ in `radius` bits agree in one band at least, so only those that agree
    in a band are compared. Neighbouring bits, which are alike in most faces, go to different bands.
    """
    if not hashes:
        return np.zeros(0, dtype=np.int64)
    words, place = np.unique(np.array(hashes, dtype=np.uint64), axis=0, return_inverse=True)
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    cluster = np.arange(len(words))
    for band in tqdm(range(radius + 1), desc="near-duplicates", unit="band", leave=False):
        columns = bits[:, band :: radius + 1].astype(np.int64)
        for first, second in _equal_pairs(columns @ (1 << np.arange(columns.shape[1]))):
            apart = cluster[first] != cluster[second]
            first, second = first[apart], second[apart]
            near = np.bitwise_count(words[first] ^ words[second]).sum(axis=1) <= radius
            cluster = _joined(cluster, cluster[first[near]], cluster[second[near]])
    return cluster[place.ravel()]


def _equal_pairs(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of rows (M,), (M,) with equal keys (N,), at most N of them at once."""
    order = np.argsort(keys, kind="stable")
    end = np.searchsorted(keys[order], keys[order], side="right")
    left, step = np.arange(len(keys)), 1
    while len(left := left[left + step < end[left]]):
        yield order[left], order[left + step]
        step += 1


def _joined(cluster: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Clusters (N,) after those of each pair have become one."""
    if not len(first):
        return cluster
    edges = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(int(cluster.max()) + 1,) * 2)
    return np.asarray(connected_components(edges, directed=False)[1])[cluster]
