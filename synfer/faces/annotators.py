"""Simulated annotators: how ten people would label a face whose true expression is known."""

from __future__ import annotations

import numpy as np

from synfer.vocabulary import EXPRESSIONS, check_expression

# Where the votes go that miss, per true expression; rows sum to 1. The pairs are those that people confuse on AffectNet and FERPlus:
# fear with surprise, disgust with anger, sadness and contempt with neutral.
CONFUSIONS: dict[str, dict[str, float]] = {
    "neutral": {"sadness": 0.40, "anger": 0.20, "contempt": 0.20, "happiness": 0.10, "surprise": 0.05, "disgust": 0.05},
    "happiness": {"neutral": 0.60, "surprise": 0.20, "contempt": 0.20},
    "sadness": {"neutral": 0.45, "fear": 0.20, "disgust": 0.15, "anger": 0.15, "contempt": 0.05},
    "surprise": {"fear": 0.60, "happiness": 0.15, "neutral": 0.25},
    "fear": {"surprise": 0.65, "sadness": 0.15, "disgust": 0.10, "neutral": 0.10},
    "disgust": {"anger": 0.55, "sadness": 0.15, "contempt": 0.15, "neutral": 0.15},
    "anger": {"disgust": 0.50, "neutral": 0.30, "contempt": 0.10, "sadness": 0.10},
    "contempt": {"neutral": 0.50, "happiness": 0.30, "disgust": 0.10, "anger": 0.10},
}

# A face is clear with probability sigmoid(CLARITY_SLOPE * (mean intensity - CLARITY_MIDDLE) + spread): calibrated on the default draw.
CLARITY_MIDDLE, CLARITY_SLOPE, CLARITY_SPREAD = 1.75, 0.85, 1.05
NEUTRAL_INTENSITY = 3.2
LAPSE = 0.03


def _confusion_row(expression: str, weakness: float) -> np.ndarray:
    """Probabilities (8,) of the labels that a missing vote takes: the table's, drawn towards neutral on a weak face."""
    row = np.array([CONFUSIONS[expression].get(name, 0.0) for name in EXPRESSIONS])
    if expression != "neutral":
        row *= 1.0 - 0.5 * weakness
        row[EXPRESSIONS.index("neutral")] += 1.0 - row.sum()
    return row / row.sum()


def _intensity(expression: str, aus: np.ndarray) -> float:
    """Mean of the face's stronger AUs; for neutral, how far its AUs are from telling anything."""
    strong = aus[aus > 1.2]
    if expression == "neutral":
        return NEUTRAL_INTENSITY - 0.5 * float(aus.max(initial=0.0))
    return float(strong.mean()) if strong.size else 0.0


def vote(expression: str, aus: np.ndarray, rng: np.random.Generator, *, annotators: int = 10) -> np.ndarray:
    """Votes over EXPRESSIONS, int64 (8,), that sum to `annotators`; raises VocabularyError on an unknown expression.

    All annotators see one image, so their errors are correlated: each face has one clarity. Over the default draw (seven expressions alike,
    ten annotators) the majority is right on 0.89 of the faces.
    """
    check_expression(expression)
    logit = CLARITY_SLOPE * (_intensity(expression, aus) - CLARITY_MIDDLE) + CLARITY_SPREAD * rng.normal()
    clarity = 1.0 / (1.0 + np.exp(-logit))
    probabilities = (1.0 - clarity) * _confusion_row(expression, float(1.0 - clarity))
    probabilities[EXPRESSIONS.index(expression)] += clarity
    probabilities = (1.0 - LAPSE) * probabilities + LAPSE / len(EXPRESSIONS)
    return rng.multinomial(annotators, probabilities / probabilities.sum())
