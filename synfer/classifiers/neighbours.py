"""k nearest neighbours in an encoder's features: a probe with nothing to fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synfer.classifiers.feature_rows import FeatureError, check_labels, check_rows, class_count

AT_ONCE = 1024
"""Rows whose similarities to all training rows are in memory together."""


def knn_probabilities(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    *,
    classes: Sequence[str] | int,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """Class shares float32 (N, K) of features (N, D) among their k most similar training rows, labels int (M,).

    Similarity is the cosine, a neighbour's weight exp(cosine / temperature), as in arXiv:1805.01978, section 3.4. With fewer than k
    training rows all of them vote. Raises FeatureError on parts that do not fit together.
    """
    count = class_count(classes)
    check_rows("train", train_features, len(train_labels))
    check_labels(train_labels, count)
    if k < 1 or temperature <= 0 or features.ndim != 2 or features.shape[1] != train_features.shape[1]:
        wanted = f"k >= 1, a temperature above 0 and features (N, {train_features.shape[1]})"
        raise FeatureError(f"neighbours need {wanted}, found k {k}, temperature {temperature:g} and features {features.shape}")
    known, votes = _unit(train_features), np.eye(count)[train_labels]
    chunks = (_unit(features[start : start + AT_ONCE]) @ known.T for start in range(0, len(features), AT_ONCE))
    return np.concatenate([np.zeros((0, count)), *(_shares(chunk, votes, min(k, len(known)), temperature) for chunk in chunks)]).astype(
        np.float32
    )


def _shares(similarity: np.ndarray, votes: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """(N, K) from similarities (N, M) and the training rows' votes (M, K)."""
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    closeness = np.take_along_axis(similarity, nearest, axis=1)
    weight = np.exp((closeness - closeness.max(axis=1, keepdims=True)) / temperature)
    return np.einsum("nk,nkc->nc", weight / weight.sum(axis=1, keepdims=True), votes[nearest])


def _unit(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
