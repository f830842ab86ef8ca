"""Few-shot classification in prototypical episodes: N classes, K examples of each to learn from, and queries to recognise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from synfer.classifiers.feature_rows import FeatureError, check_rows
from synfer.seeding import derive_seed


@dataclass(frozen=True)
class Episode:
    """Row numbers of support (ways, shots) and query (ways, queries) examples, one row of each array a class."""

    support: np.ndarray
    query: np.ndarray


def draw_episode(labels: np.ndarray, *, ways: int, shots: int, queries: int, seed: int) -> Episode:
    """An episode of `ways` classes of the labels (N,), which are names or numbers, so compound expressions serve as well as basic ones.

    Classes and examples are drawn without replacement. Raises FeatureError on fewer classes than `ways`, or one with too few examples.
    """
    names, counts = np.unique(labels, return_counts=True)
    _check(names, counts, ways=ways, shots=shots, queries=queries)
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(names), ways, replace=False)
    rows = np.stack([generator.choice(np.flatnonzero(labels == names[one]), shots + queries, replace=False) for one in chosen])
    return Episode(rows[:, :shots], rows[:, shots:])


def few_shot(features: np.ndarray, labels: np.ndarray, *, ways: int, shots: int, queries: int, episodes: int, seed: int = 0) -> np.ndarray:
    """Accuracy float (episodes,) of nearest prototypes in features (N, D) with labels (N,); see `draw_episode`.

    Episodes that are drawn from the same examples are not independent: for the interval of an accuracy resample examples, see `query_hits`.
    """
    check_rows("few-shot", features, len(labels))
    sizes = {"ways": ways, "shots": shots, "queries": queries}
    return np.array([recognised(features, episode).mean() for episode in _episodes(labels, sizes, episodes, seed)])


def query_hits(
    features: np.ndarray, labels: np.ndarray, *, ways: int, shots: int, queries: int, episodes: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Of the same episodes: how often each example was recognised, and how often it was a query, both int (N,)."""
    check_rows("few-shot", features, len(labels))
    hits, asked = np.zeros(len(labels), int), np.zeros(len(labels), int)
    for episode in _episodes(labels, {"ways": ways, "shots": shots, "queries": queries}, episodes, seed):
        hits[episode.query] += recognised(features, episode)  # an example is in an episode once
        asked[episode.query] += 1
    return hits, asked


def recognised(features: np.ndarray, episode: Episode) -> np.ndarray:
    """Which queries, bool (ways, queries), are nearest to the prototype of their own class: the mean of its support features (N, D).

    Squared Euclidean distance, as in arXiv:1703.05175.
    """
    prototypes = features[episode.support].mean(axis=1)  # (ways, D)
    distance = np.square(features[episode.query][:, :, None] - prototypes).sum(-1)  # (ways, queries, ways)
    return distance.argmin(-1) == np.arange(len(prototypes))[:, None]


def _episodes(labels: np.ndarray, sizes: dict[str, int], count: int, seed: int) -> Iterator[Episode]:
    return (draw_episode(labels, **sizes, seed=derive_seed(seed, "episode", index)) for index in range(count))


def _check(names: np.ndarray, counts: np.ndarray, *, ways: int, shots: int, queries: int) -> None:
    if min(shots, queries) < 1 or ways < 2:
        raise FeatureError(f"an episode needs two ways, one shot and one query at least, found {ways}, {shots} and {queries}")
    if len(names) < ways:
        raise FeatureError(f"an episode of {ways} ways needs as many classes, found {len(names)}: {', '.join(map(str, names))}")
    if counts.min() < shots + queries:
        least = counts.argmin()
        raise FeatureError(f"{names[least]} has {counts[least]} examples; {shots} shots and {queries} queries need {shots + queries}")
