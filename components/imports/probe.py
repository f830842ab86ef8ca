"""A trained classifier looks at some of the imported faces: does it see the classes that the labels claim, or others in their place?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.imports.images import square
from synfer.datasets.label_order import LabelReading, read_labels
from synfer.images import iter_images, resize
from synfer.seeding import derive_seed

SAMPLE = 100
"""Faces of every expression that are looked at, where there are so many."""


@dataclass(frozen=True)
class Probe:
    """A classifier: its name, its classes, the side of its images in pixels, and what it says.

    `predict` turns images uint8 (N, size, size, 3) into probabilities (N, K) of the classes.
    """

    name: str
    classes: tuple[str, ...]
    size: int
    predict: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Probed:
    """What a probe found: its name, how it reads the labels, and that in words."""

    probe: str
    reading: LabelReading
    told: str


def open_probe(folder: Path) -> Probe:
    """A classifier folder as a probe; raises ClassifierError if it is none."""
    from synfer.classifiers.models import ClassifierError, load
    from synfer.classifiers.predict import predict
    from synfer.vocabulary import EXPRESSIONS

    model = load(folder)
    if not set(model.classes) <= set(EXPRESSIONS):
        raise ClassifierError(f"{folder} names {', '.join(model.classes[:3])}, ..., which are no expressions; a probe reads expressions")
    return Probe(str(folder), model.classes, model.module.image_size, lambda images: predict(model, images))


def probe_labels(folder: Path, frame: pd.DataFrame, probe: Probe, *, seed: int) -> Probed:
    """Let the probe read a sample of the labelled faces of a dataset folder, up to SAMPLE an expression."""
    labelled = frame[frame["expression"].isin(probe.classes)]
    shuffled = labelled.sample(frac=1, random_state=derive_seed("label probe", seed) % 2**32)
    claimed = dict(shuffled.groupby("expression").head(SAMPLE)[["sample_id", "expression"]].to_numpy())
    images = {name: resize(square(pixels), probe.size) for name, pixels in iter_images(folder, claimed)} if claimed else {}
    names = list(images)
    probabilities = probe.predict(np.stack(list(images.values()))) if names else np.zeros((0, len(probe.classes)))
    reading = read_labels([claimed[name] for name in names], probabilities, probe.classes)
    return Probed(probe.name, reading, _told(probe.name, reading))


def _told(name: str, reading: LabelReading) -> str:
    if not reading.reads:
        return (
            f"{name} reads these faces no better than chance ({reading.as_claimed:.2f} of {reading.images} as they are labelled, "
            f"{reading.by_chance:.2f} by chance), so it says nothing about their order"
        )
    if not reading.moved:
        return f"{name} sees the order that the labels have ({reading.as_claimed:.2f} of {reading.images} faces, mean of the classes)"
    moved = ", ".join(f"what is read as {read} looks like {seen}" for read, seen in reading.moved.items())
    return (
        f"ANOTHER ORDER? {name} sees {reading.best:.2f} of {reading.images} faces in another order of the classes, "
        f"{reading.as_claimed:.2f} in the one that was read: {moved}"
    )
