"""The classifier as MLflow serves it: images in, class probabilities out.

MLflow keeps this file with the model and runs it to load the model ("models from code", no pickle), hence the call at its end.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from synfer.classifiers.models import Classifier, load
from synfer.classifiers.predict import predict
from synfer.images import ImageError, decode, resize

COLUMN = "image"
"""Name of the input, as `components.registration` writes it into the signature."""


class FaceClassifier(PythonModel):
    """Takes faces as uint8 (N, H, W, 3), or as a DataFrame whose column `image` holds encoded images; gives a column a class."""

    classifier: Classifier

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights that lie with the model."""
        self.classifier = load(Path(context.artifacts["classifier"]))

    # Without annotations: MLflow would read them as the input's schema.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Probabilities (N, classes); any image size. Raises ImageError naming the row that is no image."""
        values = model_input[COLUMN] if isinstance(model_input, dict | pd.DataFrame) else model_input
        size = self.classifier.module.image_size
        images = [resize(to_pixels(value, row), size) for row, value in enumerate(values)]
        stacked = np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8)
        return pd.DataFrame(predict(self.classifier, stacked).astype(np.float64), columns=list(self.classifier.classes))


def to_pixels(value: Any, row: int) -> np.ndarray:
    """RGB pixels uint8 (H, W, 3) of an array, of encoded bytes, or of their base64 text; raises ImageError naming the row."""
    where = f"row {row} of the input"
    if isinstance(value, str):
        value = base64.b64decode(value)
    if isinstance(value, bytes):
        return decode(value, where=where)
    pixels = np.asarray(value)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.min(initial=0) < 0 or pixels.max(initial=0) > 255:
        raise ImageError(f"{where} has shape {pixels.shape} and type {pixels.dtype}; an image is uint8 (H, W, 3) or encoded bytes")
    return pixels.astype(np.uint8)


mlflow.models.set_model(FaceClassifier())
