"""The embedded FER models: guide, annotators, judge and AU judge, each trained on people of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from components.assets.renders import (
    ANNOTATOR_0,
    ANNOTATOR_1,
    AU_JUDGE,
    GUIDE,
    IMAGES_AN_IDENTITY,
    JUDGE,
    Range,
    Renders,
    renders,
    trained_on,
)
from synfer.classifiers.examples import Examples, examples, one_hot
from synfer.classifiers.fit import action_units, fit
from synfer.classifiers.models import Network, create, load, save
from synfer.classifiers.plain import PLAIN
from synfer.classifiers.predict import predict_aus
from synfer.faces.actions import SUPPORTED_AUS
from synfer.files import replace_folder
from synfer.metrics.agreement import icc, pearson
from synfer.vocabulary import DEFAULT_EXPRESSIONS, SIDED_AUS, shown_intensities

_HELD_OUT = 8  # one person in eight picks the epoch
_AU_CELLS = 4  # an AU is known by its place

AU_OUTPUTS: tuple[str, ...] = tuple(code for code in SUPPORTED_AUS if code not in SIDED_AUS)
"""What the AU judge tells: every unit that the renderer draws, left and right apart where they can differ."""


def train_classifier(recipe: Recipe, faces: Renders, seed: int) -> tuple[Network, dict[str, Any]]:
    """A classifier of expressions and what it scores on held-out people."""
    targets = one_hot(list(faces.expressions), DEFAULT_EXPRESSIONS)
    train, val = _split(faces, targets)
    model = create(recipe.architecture, DEFAULT_EXPRESSIONS, image_size=faces.images.shape[1], seed=seed)
    history = fit(model, train, val, **recipe.pace, seed=seed)
    return model, max(history, key=lambda epoch: epoch["val_uar"])


def train_au_regressor(recipe: Recipe, faces: Renders, seed: int) -> tuple[Network, dict[str, Any]]:
    """A regressor of `AU_OUTPUTS` and how far it agrees with the truth on held-out people, AU by AU."""
    train, val = _split(faces, shown_intensities(faces.aus, AU_OUTPUTS))
    model = create(recipe.architecture, AU_OUTPUTS, image_size=faces.images.shape[1], cells=_AU_CELLS, seed=seed)
    begin_at(model, train.targets.mean(axis=0))
    objective = action_units(AU_OUTPUTS, train.targets.std(axis=0))
    fit(model, train, val, **recipe.pace, seed=seed, objective=objective)
    return model, au_agreement(predict_aus(model, val.images), val.targets)


def begin_at(model: Network, mean: np.ndarray) -> None:
    """Let a fresh network say `mean` (K,) of every image: most AUs are absent from most faces, and this need not be learned."""
    last = cast(nn.Linear, model.head[1])
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.from_numpy(mean))


def au_agreement(found: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Pearson's r, mean absolute error (steps) and ICC(3,1) of intensities (N, K) by output, and their means."""
    by_output = {
        code: {"r": pearson(ours, theirs), "mae": float(np.abs(ours - theirs).mean()), "icc": icc(np.stack([ours, theirs], axis=1))}
        for code, ours, theirs in zip(AU_OUTPUTS, found.T, truth.T, strict=True)
    }
    means = {name: round(float(np.mean([figures[name] for figures in by_output.values()])), 4) for name in ("r", "mae", "icc")}
    rounded = {code: {name: round(value, 3) for name, value in figures.items()} for code, figures in by_output.items()}
    return {**means, "n": len(truth), "outputs": rounded}


@dataclass(frozen=True)
class Recipe:
    """One model: its role, architecture, first identity, and training; a share `independent` of its faces has random AUs."""

    role: str
    architecture: str
    first_identity: int
    learning_rate: float = 2e-3
    images: int = 3_500
    epochs: int = 8
    batch_size: int = 64
    augmentation: float = 1.0
    independent: float = 0.0
    train: Callable[[Recipe, Renders, int], tuple[Network, dict[str, Any]]] = train_classifier

    @property
    def pace(self) -> dict[str, Any]:
        """What `fit` wants to know of it."""
        return {name: getattr(self, name) for name in ("epochs", "batch_size", "learning_rate", "augmentation")}


RECIPES = (
    Recipe("guide", "resnet10t", GUIDE),
    Recipe("annotator_0", "resnet18d", ANNOTATOR_0, learning_rate=3e-3, epochs=10),
    Recipe("annotator_1", "resnet14t", ANNOTATOR_1),
    Recipe("judge", "skresnet18", JUDGE, learning_rate=3e-3, images=6_000, epochs=10),
    # Prototypes tie AUs together: only on independent ones does a regressor learn to tell them apart. What tells some of them apart is a
    # pixel wide and does not survive resampling; pose and light vary among the renders themselves.
    Recipe(
        "au_judge",
        PLAIN,
        AU_JUDGE,
        learning_rate=1.5e-3,
        images=10_000,
        epochs=14,
        batch_size=32,
        augmentation=0.0,
        independent=0.7,
        train=train_au_regressor,
    ),
)


def make_fer_models(work: Path, out: Path, *, seed: int) -> None:
    """Train every recipe that `out` lacks; a finished model is not repeated after a kill."""
    for recipe in RECIPES:
        if not (out / recipe.role).is_dir():
            _make(recipe, work, out, seed=seed)


def _make(recipe: Recipe, work: Path, out: Path, *, seed: int) -> None:
    wanted = Range(recipe.images, recipe.first_identity, seed, independent=recipe.independent)
    model, val = recipe.train(recipe, renders(work / "renders" / recipe.role, wanted), seed)
    card = {
        "role": recipe.role, "command": "make assets", "seed": seed, "epochs": recipe.epochs, "trained_on": trained_on(wanted), "val": val,
    }  # fmt: skip
    temporary = work / f".{recipe.role}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    save(model.half(), temporary, card)  # half the bytes in the repository, the same predictions
    load(temporary)  # the weights on disk are the card's
    out.mkdir(parents=True, exist_ok=True)
    replace_folder(temporary, out / recipe.role)


def _split(faces: Renders, targets: np.ndarray) -> tuple[Examples, Examples]:
    """Training and validation examples, disjoint by identity."""
    held_out = (np.arange(len(faces)) // IMAGES_AN_IDENTITY) % _HELD_OUT == 0
    train, val = (examples(np.asarray(faces.images)[rows], targets[rows]) for rows in (~held_out, held_out))
    return train, val
