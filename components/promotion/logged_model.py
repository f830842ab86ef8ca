"""A trained classifier as MLflow keeps it: a pyfunc model with weights, code, signature and exact requirements."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models.model import ModelInfo
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

import synfer
from components.record import Metric
from components.tracking import metric_key
from synfer.classifiers.models import Classifier

_SERVED_MODEL = Path(__file__).with_name("served_model.py")  # MLflow runs it; importing it would make a model here
_PACKAGES = ("mlflow", "numpy", "pandas", "pyarrow", "pillow", "safetensors", "timm", "torch", "torchvision")


def log_classifier(classifier: Classifier, folder: Path, metrics: Mapping[str, Metric]) -> ModelInfo:
    """Log the classifier that was read from `folder` to the open run, with its metrics."""
    info = mlflow.pyfunc.log_model(
        name="classifier",
        python_model=str(_SERVED_MODEL),
        artifacts={"classifier": str(folder)},
        code_paths=[str(Path(synfer.__file__).parent)],
        signature=signature(classifier.classes),
        pip_requirements=requirements(),
        input_example=np.zeros((2, 8, 8, 3), np.uint8),
        metadata={"classes": list(classifier.classes), "sha256": classifier.sha256},
    )
    mlflow.log_metrics({metric_key(key): metric.value for key, metric in metrics.items()}, model_id=info.model_id)
    return info


def requirements() -> list[str]:
    """What the served model needs, at the versions of this environment (without a local build tag such as `+cpu`)."""
    return [f"{package}=={version(package).split('+')[0]}" for package in _PACKAGES]


def signature(classes: tuple[str, ...]) -> ModelSignature:
    """One input `image`; label, a probability a class, and the version as outputs.

    The free-form tensor type lets arrays and columns of bytes both pass.
    """
    inputs = Schema([TensorSpec(np.dtype("O"), (-1,), name="image")])
    columns = [ColSpec(DataType.string, "label"), *(ColSpec(DataType.double, name) for name in classes)]
    return ModelSignature(inputs=inputs, outputs=Schema([*columns, ColSpec(DataType.string, "model_version")]))
