"""The embedded FER models: guide, annotators and judge, each of another architecture and trained on other people."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.assets.renders import ANNOTATOR_0, ANNOTATOR_1, GUIDE, IMAGES_AN_IDENTITY, JUDGE, Range, Renders, renders, trained_on
from synfer.classifiers.examples import Examples, examples, one_hot
from synfer.classifiers.fit import fit
from synfer.classifiers.models import create, load, save
from synfer.files import replace_folder
from synfer.vocabulary import DEFAULT_EXPRESSIONS

_HELD_OUT = 8  # one person in eight picks the epoch


@dataclass(frozen=True)
class Recipe:
    """One model: its role, architecture, first identity and training."""

    role: str
    architecture: str
    first_identity: int
    learning_rate: float = 2e-3
    images: int = 3_500
    epochs: int = 8


RECIPES = (
    Recipe("guide", "resnet10t", GUIDE),
    Recipe("annotator_0", "resnet18d", ANNOTATOR_0, learning_rate=3e-3, epochs=10),
    Recipe("annotator_1", "resnet14t", ANNOTATOR_1),
    Recipe("judge", "skresnet18", JUDGE, learning_rate=3e-3, images=6_000, epochs=10),
)


def make_fer_models(work: Path, out: Path, *, seed: int) -> None:
    """Train every recipe that `out` lacks; a finished model is not repeated after a kill."""
    for recipe in RECIPES:
        if not (out / recipe.role).is_dir():
            _make(recipe, work, out, seed=seed)


def _make(recipe: Recipe, work: Path, out: Path, *, seed: int) -> None:
    wanted = Range(recipe.images, recipe.first_identity, seed)
    faces = renders(work / "renders" / recipe.role, wanted)
    train, val = _split(faces)
    model = create(recipe.architecture, DEFAULT_EXPRESSIONS, image_size=wanted.size, seed=seed)
    history = fit(model, train, val, epochs=recipe.epochs, learning_rate=recipe.learning_rate, seed=seed)
    card = {
        "role": recipe.role, "command": "make assets", "seed": seed, "epochs": recipe.epochs, "trained_on": trained_on(wanted),
        "val": max(history, key=lambda epoch: epoch["val_uar"]),
    }  # fmt: skip
    temporary = work / f".{recipe.role}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    save(model.half(), temporary, card)  # half the bytes in the repository, the same predictions
    load(temporary)  # the weights on disk are the card's
    out.mkdir(parents=True, exist_ok=True)
    replace_folder(temporary, out / recipe.role)


def _split(faces: Renders) -> tuple[Examples, Examples]:
    """Training and validation examples, disjoint by identity."""
    targets = one_hot(list(faces.expressions), DEFAULT_EXPRESSIONS)
    held_out = (np.arange(len(faces)) // IMAGES_AN_IDENTITY) % _HELD_OUT == 0
    train, val = (examples(np.asarray(faces.images)[rows], targets[rows]) for rows in (~held_out, held_out))
    return train, val
