"""Part 3: what noisy and rectified labels are worth: the same small classifier on the same faces, an equal number of times.

Labels: as the annotators gave them (rate 0), or the truth with injected expression-confusion noise. Four ways to use them: raw; filtered,
without the images that rectification would relabel or reject, with others repeated in their place; rectified hard; rectified soft, the
posterior as the target.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.rectification.faces import Faces
from benchmarks.rectification.noise import CONFUSION, inject
from benchmarks.rectification.rivals import ours
from synfer.annotation.rectifier import HeldOut
from synfer.classifiers.examples import Examples, examples
from synfer.classifiers.fit import fit
from synfer.classifiers.models import create
from synfer.classifiers.predict import predict
from synfer.config import Rectification
from synfer.files import whole_file
from synfer.metrics.bootstrap import Interval
from synfer.metrics.classification import UAR
from synfer.metrics.repeats import choices_as_probabilities, repeated_difference, repeated_interval
from synfer.seeding import derive_seed

ARMS = ("raw", "filtered", "hard", "soft")
RESAMPLES = 1000
_VAL = 300  # faces on which the epoch is chosen


@dataclass(frozen=True)
class Pictures:
    """Faces with their pixels uint8 (N, H, W, 3)."""

    faces: Faces
    images: np.ndarray


@dataclass(frozen=True)
class Recipe:
    """How each classifier is trained: small batches and no jitter, so that it gets somewhere in a minute."""

    architecture: str = "resnet10t"
    epochs: int = 6
    batch_size: int = 16
    learning_rate: float = 2e-3
    augmentation: float = 0.0


def downstream(
    train: Pictures, val: Pictures, test: Pictures, held_out: HeldOut, *, classes: Sequence[str], section: Rectification, seeds: int,
    recipe: Recipe, rates: Sequence[float], work: Path,
) -> dict[str, np.ndarray]:  # fmt: skip
    """First choices (S, N) on the test faces by `<arm>_<rate in per cent>`, S seeds of training and of noise; `section` sets ours.

    Each training's choices are kept in `work`, so that a study that was cut off goes on where it was.
    """
    choices: dict[str, list[np.ndarray]] = {}
    for rate, seed in tqdm(list(product(rates, range(seeds))), desc="downstream", unit="round"):
        for arm, targets in labels(train.faces, held_out, rate, seed, classes=classes, section=section).items():
            root = derive_seed("rectification", "downstream", seed)  # the same initial weights and batches for all arms
            path = work / f"choices-{_key(train.images, targets, val, test, recipe, root)}.npy"
            if not path.is_file():
                choice = _trained_choice(train.images, targets, val, test.images, classes=classes, recipe=recipe, seed=root)
                with whole_file(path) as temporary, temporary.open("wb") as file:
                    np.save(file, choice)
            choice = np.load(path)
            choices.setdefault(f"{arm}_{round(100 * rate)}", []).append(choice)
    return {name: np.stack(rows) for name, rows in choices.items()}


def labels(
    faces: Faces, held_out: HeldOut, rate: float, seed: int, *, classes: Sequence[str], section: Rectification
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For every arm, which faces to train on (N,), with repetitions, and their targets (N, K)."""
    root = derive_seed("rectification", "downstream", rate, seed)
    given = inject(faces.truth, rate, CONFUSION, classes=classes, seed=root) if rate else faces.labels
    found, one_hot = ours(faces, given, held_out, classes=classes, section=section, seed=root), np.eye(len(classes))
    used = np.flatnonzero(found.decisions.weight > 0)
    unsuspected = used[found.decisions.label[used] == given[used]]
    everything, order = np.arange(len(faces)), np.random.default_rng(root)
    arms = {
        "raw": (everything, one_hot[given]),
        "filtered": (order.permutation(unsuspected), one_hot[given]),
        "hard": (order.permutation(used), one_hot[found.decisions.label]),
        "soft": (order.permutation(used), found.posterior),
    }
    return {name: (rows := np.resize(chosen, len(faces)), targets[rows]) for name, (chosen, targets) in arms.items()}


def _key(images: np.ndarray, targets: tuple[np.ndarray, np.ndarray], val: Pictures, test: Pictures, recipe: Recipe, seed: int) -> str:
    """Stands for all that a training and its choices depend on."""
    digest = hashlib.sha256(f"{recipe} {seed}".encode())
    for array in (images, *targets, val.images, val.faces.labels, test.images):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _trained_choice(
    images: np.ndarray, targets: tuple[np.ndarray, np.ndarray], val: Pictures, test: np.ndarray, *, classes: Sequence[str], recipe: Recipe,
    seed: int,
) -> np.ndarray:  # fmt: skip
    rows, wanted = targets
    model = create(recipe.architecture, classes, image_size=images.shape[1], seed=seed)
    known: Examples = examples(val.images[:_VAL], np.eye(len(classes))[val.faces.labels[:_VAL]])
    fit(
        model, examples(images[rows], wanted), known, epochs=recipe.epochs, batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate, augmentation=recipe.augmentation, seed=seed,
    )  # fmt: skip
    return predict(model, test).argmax(axis=1)


def gains(choices: Mapping[str, np.ndarray], faces: Faces) -> dict[str, Interval]:
    """UAR of every arm at every rate, and what it is above raw labels, paired.

    People of the test split and seeds are both drawn with replacement, the same for all arms, so that the intervals hold the randomness of
    faces, of noise and of training (see `synfer.metrics.repeats`). With one seed they hold that of the faces alone.
    """
    classes = 1 + max(int(faces.truth.max()), *(int(rows.max()) for rows in choices.values()))
    tables = {name: choices_as_probabilities(rows, classes) for name, rows in choices.items()}
    people, found = faces.identities.tolist(), {}
    for name, table in tables.items():
        found[f"uar_{name}"] = repeated_interval(UAR, faces.truth, table, groups=people, resamples=RESAMPLES)
    for name, table in tables.items():
        if not name.startswith("raw"):
            raw = tables[f"raw_{name.rsplit('_', 1)[1]}"]
            found[f"gain_{name}"] = repeated_difference(UAR, faces.truth, table, raw, groups=people, resamples=RESAMPLES)
    return found
