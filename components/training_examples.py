"""From dataset folders to training examples: real images with annotators' votes, generated ones with rectified labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from synfer.classifiers.examples import Examples, examples, one_hot
from synfer.images import load_images
from synfer.manifest import stack
from synfer.vocabulary import EXPRESSIONS


def real_examples(folder: Path, rows: pd.DataFrame, *, classes: Sequence[str], size: int) -> Examples:
    """Images of a dataset folder; targets are the annotators' votes where the manifest has them, else the label."""
    images = load_images(folder, rows["sample_id"].tolist(), size=size)
    return examples(images, vote_targets(rows, classes) if "votes" in rows.columns else one_hot(rows["expression"].tolist(), classes))


def labelled_examples(folder: Path, rows: pd.DataFrame, *, classes: Sequence[str], size: int) -> Examples:
    """Images of a dataset folder with their label alone, for choosing an epoch and measuring."""
    return examples(load_images(folder, rows["sample_id"].tolist(), size=size), one_hot(rows["expression"].tolist(), classes))


def rectified_examples(folder: Path, rows: pd.DataFrame, *, classes: Sequence[str], size: int) -> Examples:
    """Generated images that rectification did not reject, of the weight that it gave; softened rows learn their posterior.

    `rows` are those of rectification's manifest, `folder` is the one of synthesis that holds the images.
    """
    kept = rows[rows["action"] != "reject"]
    images = load_images(folder, kept["sample_id"].tolist(), size=size)
    return examples(images, rectified_targets(kept, classes), kept["weight"].to_numpy())


def vote_targets(rows: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Share of the votes for each class, float (N, K); a face whose votes all went to other expressions has its label."""
    return _shares(stack(rows, "votes"), rows["expression"].tolist(), classes)


def rectified_targets(rows: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Float (N, K): the posterior of a softened row, else the rectified label."""
    labels = rows["label"].tolist()
    soft = (rows["action"] == "soften").to_numpy()
    return np.where(soft[:, None], _shares(stack(rows, "posterior"), labels, classes), one_hot(labels, classes))


def _shares(over_expressions: np.ndarray, labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Rows (N, len(EXPRESSIONS)) as probabilities over the classes alone."""
    wanted = over_expressions.reshape(-1, len(EXPRESSIONS))[:, [EXPRESSIONS.index(name) for name in classes]].astype(np.float64)
    total = wanted.sum(axis=1, keepdims=True)
    return np.where(total > 0, wanted / np.maximum(total, 1e-12), one_hot(labels, classes)).astype(np.float32)
