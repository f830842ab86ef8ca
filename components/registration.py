"""Stage registration: a trained classifier becomes a registered version, the first one `champion`, a later one `challenger`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models.model import ModelInfo
from mlflow.models.signature import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

import synfer
from components.model_card import model_card
from components.record import Metric, Record, read_metrics
from components.tracking import metric_key
from synfer.classifiers.models import Classifier, load
from synfer.config import Common, Registration
from synfer.files import write_json

_SERVED_MODEL = Path(__file__).with_name("served_model.py")  # MLflow runs it; importing it would make a model here
LINEAGE_TAGS = ("data.dvc_md5", "git.commit", "prefect.flow_run")
_PACKAGES = ("mlflow", "numpy", "pandas", "pyarrow", "pillow", "safetensors", "timm", "torch", "torchvision")


def run(section: Registration, common: Common, *, evaluation: Path, classifiers: Path, validation: Path, out: Path) -> None:
    """Log the classifier of `section.training_set` as a pyfunc model to the open MLflow run, and register it with tags and a card."""
    folder = classifiers / section.training_set
    classifier = load(folder)
    metrics = metrics_of(section.training_set, read_metrics(evaluation))
    info = _log_model(classifier, folder, metrics)
    client = MlflowClient()
    lineage = _lineage()
    number = _new_version(client, section.model_name, info)
    for key, value in {**lineage, **_gate_tags(validation), **_metric_tags(metrics)}.items():
        client.set_model_version_tag(section.model_name, number, key, value)
    card = model_card(
        training_set=section.training_set,
        architecture=str(classifier.card["architecture"]),
        classes=classifier.classes,
        metrics=metrics,
        lineage=lineage,
    )
    client.update_model_version(section.model_name, number, description=card)
    alias = give_alias(client, section.model_name, number)
    _record(out, section.model_name, number, alias, info, metrics, champion=_champion_uar(client, section.model_name))
    (out / "model_card.md").write_text(card, encoding="utf-8")


def metrics_of(training_set: str, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics of one classifier, keys without their prefix: `classifiers/real/uar` becomes `uar`."""
    prefix = f"classifiers/{training_set}/"
    return {key.removeprefix(prefix): metric for key, metric in metrics.items() if key.startswith(prefix)}


def give_alias(client: MlflowClient, name: str, number: str) -> str:
    """Set alias `challenger` on a version, or `champion` where the model has none; returns the alias."""
    alias = "challenger" if "champion" in client.get_registered_model(name).aliases else "champion"
    client.set_registered_model_alias(name, alias, number)
    return alias


def requirements() -> list[str]:
    """What the served model needs, at the versions of this environment (without a local build tag such as `+cpu`)."""
    return [f"{package}=={version(package).split('+')[0]}" for package in _PACKAGES]


def signature(classes: tuple[str, ...]) -> ModelSignature:
    """One input `image` and an output a class; the free-form tensor type lets arrays and columns of bytes both pass."""
    inputs = Schema([TensorSpec(np.dtype("O"), (-1,), name="image")])
    return ModelSignature(inputs=inputs, outputs=Schema([ColSpec(DataType.double, name) for name in classes]))


def _log_model(classifier: Classifier, folder: Path, metrics: Mapping[str, Metric]) -> ModelInfo:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*type hints")  # the signature says more than they could
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


def _new_version(client: MlflowClient, name: str, info: ModelInfo) -> str:
    """Register a logged model, the first time under a new name; returns the version's number. (`mlflow.register_model` would print.)"""
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        client.create_registered_model(name, description="Facial expressions; versions and their cards come from stage registration")
    return str(client.create_model_version(name, source=info.model_uri, run_id=info.run_id, model_id=info.model_id).version)


def _lineage() -> dict[str, str]:
    """The tags of the open run that lead back to data, code and flow run."""
    run = mlflow.active_run()
    tags: dict[str, str] = run.data.tags if run is not None else {}
    return {name: tags[name] for name in LINEAGE_TAGS if name in tags}


def _gate_tags(validation: Path) -> dict[str, str]:
    result: dict[str, Any] = json.loads((validation / "result.json").read_text(encoding="utf-8"))
    return {"validation_status": "passed" if result["success"] else "failed"}


def _metric_tags(metrics: Mapping[str, Metric]) -> dict[str, str]:
    return {f"metric.{key}": f"{metric.value:.4f}" for key, metric in metrics.items() if "/" not in key}


def _champion_uar(client: MlflowClient, name: str) -> float:
    return float(client.get_model_version_by_alias(name, "champion").tags["metric.uar"])


def _record(
    out: Path, name: str, number: str, alias: str, info: ModelInfo, metrics: Mapping[str, Metric], *, champion: float
) -> None:
    record = Record(out)
    record.metric("registration/version", int(number))
    record.metric("registration/uar", metrics["uar"].value, low=metrics["uar"].low, high=metrics["uar"].high, n=metrics["uar"].n)
    if alias == "challenger":
        record.metric("registration/uar_over_champion", metrics["uar"].value - champion)
    rows = {"model": name, "version": number, "alias": alias, "uri": f"models:/{name}@{alias}", "champion's UAR": f"{champion:.3f}"}
    record.table("Registered model", pd.DataFrame({"what": list(rows), "value": list(rows.values())}))
    record.save()
    write_json(out / "registration.json", {"model": name, "version": int(number), "alias": alias, "model_id": info.model_id})
