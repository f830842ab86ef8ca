"""The classifier as MLflow serves it: images in; label, probabilities and the version of the model out.

MLflow keeps this file with the model and runs it to load the model ("models from code", no pickle), hence the call at its end.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
import yaml
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from synfer.classifiers.models import Classifier, load
from synfer.classifiers.predict import predict
from synfer.images import ImageError, decode, resize

_REGISTERED = "registered_model_meta"  # MLflow writes it beside a model that it fetched by `models:/`

COLUMN = "image"
"""Name of the input, as `components.registration` writes it into the signature."""


class FaceClassifier(PythonModel):
    """Takes faces as uint8 (N, H, W, 3), or as a DataFrame whose column `image` holds encoded images.

    Gives columns `label`, one a class (its probability), and `model_version`.
    """

    classifier: Classifier
    version: str

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights that lie with the model."""
        folder = Path(context.artifacts["classifier"])
        self.classifier = load(folder)
        self.version = version_of(folder) or f"sha256:{self.classifier.sha256[:12]}"

    # The type of `model_input` is one that MLflow does not read as the input's schema: arrays are taken as well.
    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row an image, of any size. Raises MlflowException (status 400 when served) naming the row that is no image."""
        values = model_input[COLUMN] if isinstance(model_input, dict | pd.DataFrame) else model_input
        size = self.classifier.module.image_size
        try:
            images = [resize(to_pixels(value, row), size) for row, value in enumerate(values)]
        except ImageError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        stacked = np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8)
        probabilities = predict(self.classifier, stacked).astype(np.float64)
        labels = [self.classifier.classes[index] for index in probabilities.argmax(axis=1)]
        found = pd.DataFrame(probabilities, columns=list(self.classifier.classes))
        found.insert(0, "label", pd.Series(labels, dtype=object))
        return found.assign(model_version=self.version)


def version_of(folder: Path) -> str:
    """Number of the registered version that a folder inside a fetched model belongs to; empty if it was loaded in another way."""
    for parent in folder.parents:
        if (parent / _REGISTERED).is_file():
            return str(yaml.safe_load((parent / _REGISTERED).read_text(encoding="utf-8"))["model_version"])
        if (parent / "MLmodel").is_file():
            return ""
    return ""


def to_pixels(value: Any, row: int) -> np.ndarray:
    """RGB pixels uint8 (H, W, 3) of an array, of encoded bytes, or of their base64 text; raises ImageError naming the row."""
    where = f"row {row} of the input"
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ImageError(f"{where} is text but not the base64 of an image: {error}") from error
    if isinstance(value, bytes):
        return decode(value, where=where)
    pixels = np.asarray(value)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.min(initial=0) < 0 or pixels.max(initial=0) > 255:
        raise ImageError(f"{where} has shape {pixels.shape} and type {pixels.dtype}; an image is uint8 (H, W, 3) or encoded bytes")
    return pixels.astype(np.uint8)


mlflow.models.set_model(FaceClassifier())
