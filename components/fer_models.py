"""Stage fer_models: the guide, the annotators and the judge, each a classifier folder; `roles.json` says who learned from whom.

They come trained (`section.source`, a folder in the layout that this stage writes) or are trained here on disjoint people of the corpus. A
card's `trained_on` holds the number of images and the identities, runs of numbers as `person-00010..person-00099`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.device import torch_device
from components.plots import confusion_matrices, training_curves
from components.record import Record
from components.tracking import log_metrics
from components.training_examples import labelled_examples, real_examples
from synfer.classifiers.fit import fit
from synfer.classifiers.models import Classifier, create, load, save
from synfer.classifiers.predict import predict
from synfer.config import Common
from synfer.config import FerModels as Section
from synfer.errors import SynferError
from synfer.files import write_json
from synfer.manifest import read_manifest
from synfer.metrics.bootstrap import Interval, interval
from synfer.metrics.classification import ACCURACY, UAR, confusion
from synfer.metrics.roles import AU_JUDGE, JUDGE, Role, check_roles, compact_identities, expand_identities
from synfer.seeding import derive_seed

ROLES = "roles.json"
TRAIN_HERE = "train"
History = list[dict[str, float]]


class FerModelsError(SynferError):
    """A folder of FER models that lacks a role, or a card that lacks an entry; the message names it."""


def run(section: Section, common: Common, *, development: Path, out: Path) -> None:
    """Write one classifier folder a role and `roles.json` to `out`; raises RoleConflict if the judge is not independent."""
    frame = read_manifest(development)
    frame = frame[frame["expression"].isin(common.expressions)]
    histories: dict[str, History] = {}
    if section.source == TRAIN_HERE:
        histories = train_roles(section, common, frame, development, out)
    else:
        copy_roles(Path(section.source), architectures(section), out)
    models = {role: load(out / role, device=torch_device(common.device)) for role in architectures(section)}
    write_json(out / ROLES, {role: _entry(model, out / role) for role, model in models.items()})
    check_roles(read_roles(out))
    _record(models, histories, frame[frame["split"] == "val"], development, common, out)


def architectures(section: Section) -> dict[str, str]:
    """timm architecture by role."""
    annotators = {f"annotator_{index}": name for index, name in enumerate(section.annotators)}
    return {"guide": section.guide, **annotators, JUDGE: section.judge}


def read_roles(fer_models: Path) -> dict[str, Role]:
    """Hash and training identities of every role, from the models themselves."""
    folders = sorted(path.parent for path in fer_models.glob("*/card.json"))
    models = {folder.name: load(folder) for folder in folders}
    learned_from = {role: _trained_on(model, fer_models / role)["identities"] for role, model in models.items()}
    return {role: Role(model.sha256, expand_identities(learned_from[role])) for role, model in models.items()}


def copy_roles(source: Path, roles: Mapping[str, str], out: Path) -> None:
    """Copy every role's classifier folder; raises FerModelsError naming a role that is missing and those that are there."""
    for role in roles:
        if not (source / role).is_dir():
            there = ", ".join(sorted(path.name for path in source.iterdir() if path.is_dir())) or "nothing"
            raise FerModelsError(f"{source} has no folder for the role {role!r}; there are: {there}")
        model = load(source / role)
        save(model.module, out / role, model.card)


def train_roles(section: Section, common: Common, frame: pd.DataFrame, development: Path, out: Path) -> dict[str, History]:
    """Train every role on people of its own and write its folder; the epoch is chosen on val. Returns the histories."""
    train, val = frame[frame["split"] == "train"], frame[frame["split"] == "val"]
    held_out = labelled_examples(development, val, classes=common.expressions, size=common.image_size)
    parts = split_people(train, len(architectures(section)), seed=derive_seed(common.seed, "fer_models"))
    histories: dict[str, History] = {}
    for (role, architecture), rows in zip(architectures(section).items(), parts, strict=True):
        seed = derive_seed(common.seed, "fer_models", role)
        model = create(architecture, common.expressions, image_size=common.image_size, seed=seed)

        def log(epoch: int, metrics: dict[str, float], role: str = role) -> None:
            log_metrics({f"{role}/{name}": value for name, value in metrics.items()}, step=epoch)

        histories[role] = fit(
            model, real_examples(development, rows, classes=common.expressions, size=common.image_size), held_out,
            epochs=section.epochs, batch_size=section.batch_size, learning_rate=section.learning_rate, seed=seed,
            device=torch_device(common.device), on_epoch=log,
        )  # fmt: skip
        trained_on = {"images": len(rows), "identities": compact_identities(people(rows))}
        save(model, out / role, {"role": role, "trained_on": trained_on, "history": histories[role]})
    return histories


def split_people(rows: pd.DataFrame, parts: int, *, seed: int) -> list[pd.DataFrame]:
    """The rows in `parts` groups of about equal size that share no person; raises FerModelsError where there are too few people."""
    person = people(rows)
    names = np.random.default_rng(seed).permutation(np.unique(person))
    if len(names) < parts:
        raise FerModelsError(f"{len(names)} people cannot be split among {parts} models that must share none")
    return [rows[person.isin(group)] for group in np.array_split(names, parts)]


def people(rows: pd.DataFrame) -> pd.Series:
    """Identity of every row; an unknown one is somebody of their own, named by the sample."""
    return rows["identity"].mask(rows["identity"] == "", rows["sample_id"])


def unjudged(rows: pd.DataFrame, fer_models: Path) -> pd.DataFrame:
    """The rows of people on whom no judge was trained: only from these may anything else learn that a judge will judge."""
    roles = read_roles(fer_models)
    judged = frozenset().union(*(roles[name].identities for name in (JUDGE, AU_JUDGE) if name in roles))
    return rows[~people(rows).isin(judged)]


def _entry(model: Classifier, folder: Path) -> dict[str, Any]:
    """What `roles.json` says of a role."""
    trained_on = _trained_on(model, folder)
    return {"architecture": model.module.architecture, "sha256": model.sha256, "classes": list(model.classes), "trained_on": trained_on}


def _trained_on(model: Classifier, folder: Path) -> dict[str, Any]:
    trained_on: dict[str, Any] = model.card.get("trained_on", {})
    for key in ("images", "identities"):
        if key not in trained_on:
            raise FerModelsError(f"{folder / 'card.json'} lacks trained_on.{key}; without it the judge's independence is unknown")
    return trained_on


# --- what people see --------------------------------------------------------------------------------------------------------------


def _record(
    models: Mapping[str, Classifier], histories: Mapping[str, History], val: pd.DataFrame, development: Path, common: Common, out: Path
) -> None:
    record = Record(out)
    held_out = labelled_examples(development, val, classes=common.expressions, size=common.image_size)
    truth = held_out.targets.argmax(axis=1)
    matrices, rows = {}, []
    for role, model in models.items():
        probabilities = class_probabilities(model, held_out.images, common)
        accuracy, uar = (interval(metric, truth, probabilities) for metric in (ACCURACY, UAR))
        for name, found in (("val_accuracy", accuracy), ("val_uar", uar)):
            record.metric(f"fer_models/{role}/{name}", found.value, low=found.low, high=found.high, n=found.n)
        matrices[f"{role}: {accuracy.value:.2f}"] = confusion(truth, probabilities.argmax(axis=1), len(common.expressions))
        rows.append(_row(role, model, accuracy))
    record.table("FER models by role", pd.DataFrame(rows))
    caption = f"Per cent of each annotated class on {len(val)} val faces, accuracy in the title; the label is itself a noisy majority."
    figure = confusion_matrices(matrices, common.expressions, rows="annotated label")
    record.figure("confusion", figure, title="What the FER models confuse", caption=caption)
    if histories:
        text = "The epoch with the best UAR on val is kept (dot)."
        record.figure("training", training_curves(histories), title="Training of the FER models", caption=text)
    record.save()


def _row(role: str, model: Classifier, accuracy: Interval) -> dict[str, object]:
    return {
        "role": role,
        "architecture": model.module.architecture,
        "sha256": model.sha256[:12],
        "parameters": f"{model.card['parameters']:,}",
        "training images": model.card["trained_on"]["images"],
        "people": len(expand_identities(model.card["trained_on"]["identities"])),
        "val accuracy": f"{accuracy.value:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f})",
    }


def class_probabilities(model: Classifier, images: np.ndarray, common: Common) -> np.ndarray:
    """Probabilities (N, K) over the configured classes, in their order; raises FerModelsError if the model lacks one."""
    for name in common.expressions:
        if name not in model.classes:
            raise FerModelsError(f"a FER model ({model.module.architecture}) cannot tell {name!r}; it knows {', '.join(model.classes)}")
    columns = [model.classes.index(name) for name in common.expressions]
    found = predict(model, images, device=torch_device(common.device))[:, columns]
    return found / found.sum(axis=1, keepdims=True)
