"""Expressions in picture files, by a model that MLflow keeps, with the answers of `mlflow models serve`, or by a classifier's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.tracking import MlflowClient
from tqdm import tqdm

from components import tracking
from components.faults import outages_told
from components.promotion.registry import PromotionError
from components.workspace import Workspace
from synfer.classifiers.models import Classifier, ClassifierError, load
from synfer.classifiers.predict import predict
from synfer.images import ImageError, decode, resize
from synfer.vocabulary import EXPRESSIONS

_AT_ONCE = 64  # pictures in memory


def predict_files(workspace: Workspace, paths: Sequence[Path], model: str) -> pd.DataFrame:
    """One row a picture: file, label, probability of the label, one column a class, model_version.

    `model` is a URI of MLflow or the folder of a trained classifier, whose version is its digest. Raises ImageError naming the file that
    is missing or no picture, before the model is loaded if it is missing; PromotionError or ClassifierError if there is no such model.
    """
    for path in paths:
        if path.is_dir():
            raise ImageError(f"{path} is a folder; name its pictures, for example {path}/*.png")
        if not path.is_file():
            raise ImageError(f"{path} does not exist")
    rate = _rater(workspace, model)
    parts: list[pd.DataFrame] = []
    for start in tqdm(range(0, len(paths), _AT_ONCE), desc="predict", disable=len(paths) <= _AT_ONCE):
        parts.append(rate([_picture(path) for path in paths[start : start + _AT_ONCE]]))
    found = pd.concat(parts, ignore_index=True)
    classes = [name for name in found.columns if name not in ("label", "model_version")]
    found.insert(0, "file", [str(path) for path in paths])
    found.insert(2, "probability", found[classes].max(axis=1))
    return found


def _rater(workspace: Workspace, model: str) -> Callable[[list[bytes]], pd.DataFrame]:
    """Encoded pictures -> label, one column a class, model_version."""
    if ":/" not in model and not (Path(model) / "MLmodel").is_file():
        classifier = load(Path(model))
        if not classifier.classes or not set(classifier.classes) <= set(EXPRESSIONS):
            raise ClassifierError(f"{model} is no classifier of expressions; its outputs: {', '.join(classifier.classes) or 'features'}")
        return partial(_rated, classifier)
    tracking.connect(workspace)
    loaded = _load(model)
    return lambda pictures: cast(pd.DataFrame, loaded.predict(pd.DataFrame({"image": pictures})))


def _rated(classifier: Classifier, pictures: list[bytes]) -> pd.DataFrame:
    """What the served model answers, see `served_model`, which cannot be imported: MLflow would take that for a model."""
    size = classifier.module.image_size
    images = np.stack([resize(decode(data, where="a picture"), size) for data in pictures])
    found = pd.DataFrame(predict(classifier, images).astype(np.float64), columns=list(classifier.classes))
    found.insert(0, "label", found.idxmax(axis=1))
    return found.assign(model_version=f"sha256:{classifier.sha256[:12]}")


def _picture(path: Path) -> bytes:
    """The file as it is; the model would name a row where this names the file."""
    data = path.read_bytes()
    decode(data, where=str(path))
    return data


def check_model(workspace: Workspace, uri: str) -> None:
    """Raise PromotionError, which names the registered models, unless MLflow has the model at `uri`."""
    tracking.connect(workspace)
    with _missing_told(uri):
        mlflow.models.get_model_info(uri)


def _load(uri: str) -> PyFuncModel:
    with _missing_told(uri):
        return mlflow.pyfunc.load_model(uri)


@contextmanager
def _missing_told(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError) as error:
        with outages_told():
            known = ", ".join(sorted(model.name for model in MlflowClient().search_registered_models()))
        why = str(error).splitlines()[0].rstrip(".")
        there = f"registered: {known}; --config or --model says which" if known else "a run of the pipeline registers one"
        raise PromotionError(f"MLflow has no model {uri}: {why}; {there}") from error
