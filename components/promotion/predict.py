"""Expressions in picture files by a model that MLflow keeps: the same model, and so the same answers, as `mlflow models serve`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.tracking import MlflowClient
from tqdm import tqdm

from components import tracking
from components.faults import outages_told
from components.promotion.registry import PromotionError
from components.workspace import Workspace
from synfer.images import ImageError, decode

_AT_ONCE = 64  # pictures in memory


def predict_files(workspace: Workspace, paths: Sequence[Path], uri: str) -> pd.DataFrame:
    """One row a picture: file, label, probability of the label, one column a class, model_version.

    Raises ImageError naming the file that is missing or no picture, before the model is loaded if it is missing.
    """
    for path in paths:
        if not path.is_file():
            raise ImageError(f"{path} does not exist")
    tracking.connect(workspace)
    model = _load(uri)
    parts: list[pd.DataFrame] = []
    for start in tqdm(range(0, len(paths), _AT_ONCE), desc="predict", disable=len(paths) <= _AT_ONCE):
        pictures = [_picture(path) for path in paths[start : start + _AT_ONCE]]
        parts.append(cast(pd.DataFrame, model.predict(pd.DataFrame({"image": pictures}))))
    found = pd.concat(parts, ignore_index=True)
    classes = [name for name in found.columns if name not in ("label", "model_version")]
    found.insert(0, "file", [str(path) for path in paths])
    found.insert(2, "probability", found[classes].max(axis=1))
    return found


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
