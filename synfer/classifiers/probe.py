"""Linear probe: how much of an expression a straight line reads from an encoder's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler

from synfer.classifiers.feature_rows import FeatureError, check_rows, class_count

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse regularisation strengths to choose from; beyond 1 a few thousand faces are learned by heart."""

ITERATIONS = 300


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on standardised features, and the strength C and UAR on val by which it was chosen."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    strength: float
    val_uar: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, K) of features (N, D)."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise FeatureError(f"the probe reads features (N, {len(self.mean)}), found {features.shape}")
        return (features - self.mean) / self.scale @ self.weights.T + self.bias

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities float32 (N, K) of features (N, D); 0 for a class that training had no example of."""
        logits = self.logits(features)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


def linear_probe(
    train_features: np.ndarray,
    train_targets: np.ndarray,
    val_features: np.ndarray,
    val_targets: np.ndarray,
    *,
    classes: Sequence[str] | int,
    weights: np.ndarray | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> LinearProbe:
    """The probe of the regularisation with the best UAR on val, fitted on train alone.

    Features (N, D), targets class probabilities (N, K): a row counts for each class by its share, and as a whole by `weights` (N,).
    Convex, so there is nothing random. Raises FeatureError on parts that do not fit together.
    """
    count = class_count(classes)
    for name, features, targets in (("train", train_features, train_targets), ("val", val_features, val_targets)):
        _check(name, features, targets, count)
    scaler = StandardScaler().fit(train_features)
    rows, labels = np.nonzero(train_targets)
    shares = train_targets[rows, labels] * (1.0 if weights is None else weights[rows])
    inputs, truth = scaler.transform(train_features).astype(np.float64)[rows], val_targets.argmax(1)
    model = LogisticRegression(max_iter=ITERATIONS, tol=1e-3, warm_start=True)  # from strong to weak, each starts where the last one ended
    best: LinearProbe | None = None
    for strength in sorted(strengths):
        model.set_params(C=strength).fit(inputs, labels, sample_weight=shares)
        probe = _probe(model, scaler, count, strength)
        uar = recall_score(truth, probe.logits(val_features).argmax(1), average="macro", labels=np.unique(truth), zero_division=0.0)
        if best is None or uar > best.val_uar:
            best = LinearProbe(**{**vars(probe), "val_uar": float(uar)})
    if best is None:
        raise FeatureError("there are no regularisation strengths to choose from")
    return best


def _probe(model: LogisticRegression, scaler: StandardScaler, classes: int, strength: float) -> LinearProbe:
    """The model's weights as one row a class; scikit-learn leaves out classes without an example and keeps one row of two."""
    weights, bias = np.zeros((classes, model.coef_.shape[1])), np.full(classes, -np.inf)
    if len(model.classes_) == 2:
        weights[model.classes_], bias[model.classes_] = (
            np.stack([-model.coef_[0], model.coef_[0]]) / 2,
            [-model.intercept_[0] / 2, model.intercept_[0] / 2],
        )
    else:
        weights[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return LinearProbe(scaler.mean_, scaler.scale_, weights, bias, strength, 0.0)


def _check(name: str, features: np.ndarray, targets: np.ndarray, classes: int) -> None:
    if targets.ndim != 2 or targets.shape[1] != classes:
        raise FeatureError(f"{name} targets must be class probabilities (N, {classes}), found {targets.shape}")
    check_rows(name, features, len(targets))
    if name == "train" and len(np.unique(np.nonzero(targets)[1])) < 2:
        raise FeatureError("a probe needs training targets of at least two classes")
