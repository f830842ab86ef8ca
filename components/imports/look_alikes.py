"""Who looks alike: groups of faces by an embedding, for data sets that do not say who is on an image.

A split needs no names. It is enough that the faces of a person lie in one group, and two people in a group cost nothing: they stay in one
split together. So faces are joined as far as the splits can bear, the nearest first, and there is no threshold, which every embedding would
need another of (single linkage with bounded groups).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from components.imports.images import square
from synfer.classifiers.embedding import Embedding
from synfer.images import iter_images, resize

NEIGHBOURS = 10
"""Neighbours of a face that it may be joined with."""

LARGEST_SHARE, LARGEST_AT_LEAST = 0.02, 20
"""Images of a group at most: with fifty groups or more the splits still come near their shares and classes."""

_AT_ONCE = 64


def largest_group(images: int) -> int:
    """How many of so many images a group may hold."""
    return max(int(LARGEST_SHARE * images), LARGEST_AT_LEAST)


def look_alikes(vectors: np.ndarray, near: np.ndarray, *, largest: int, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Group of every face, int (N,), from unit vectors float (N, D) and clusters of near-duplicates int (N,), which are never parted.

    A face is joined with its nearest `neighbours`, the nearest pairs first, as long as no group grows beyond `largest`. Memory grows with N
    times `neighbours`: distances are computed block by block.
    """
    groups = DisjointSet(range(len(vectors)))
    first_of = {cluster: row for row, cluster in reversed(list(enumerate(near.tolist())))}
    for row, cluster in enumerate(near.tolist()):
        groups.merge(row, first_of[cluster])
    for one, other in _nearest_pairs(vectors, min(neighbours, len(vectors) - 1)):
        if not groups.connected(one, other) and groups.subset_size(one) + groups.subset_size(other) <= largest:
            groups.merge(one, other)
    return np.array([groups[row] for row in range(len(vectors))], dtype=np.int64)


def _nearest_pairs(vectors: np.ndarray, neighbours: int) -> Iterable[tuple[int, int]]:
    """Pairs of neighbours, the nearest first."""
    if neighbours < 1:
        return ()
    distances, found = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(vectors).kneighbors()
    rows = np.repeat(np.arange(len(vectors)), neighbours)
    order = np.argsort(distances.ravel(), kind="stable")
    return zip(rows[order].tolist(), found.ravel()[order].tolist(), strict=True)


def embed(folder: Path, sample_ids: Sequence[str], embedding: Embedding) -> np.ndarray:
    """Vectors (N, D) of the samples of a dataset folder, in the order asked; some images are held at once."""
    place = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    vectors: np.ndarray | None = None
    held: list[tuple[int, np.ndarray]] = []
    with tqdm(total=len(sample_ids), desc="look-alikes", unit="image", leave=False) as bar:
        for number, (sample_id, pixels) in enumerate(iter_images(folder, sample_ids), 1):
            held.append((place[sample_id], resize(square(pixels), embedding.size)))
            if len(held) == _AT_ONCE or number == len(sample_ids):
                rows, images = zip(*held, strict=True)
                found = embedding(np.stack(images))
                vectors = np.empty((len(sample_ids), found.shape[1]), dtype=np.float32) if vectors is None else vectors
                vectors[list(rows)] = found
                bar.update(len(held))
                held.clear()
    return np.zeros((0, 1), dtype=np.float32) if vectors is None else vectors
