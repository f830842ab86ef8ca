"""What the report page shows beside the stages' own records: strips of real and generated faces, labelled examples, headline figures."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.record import Metric
from synfer.annotation.rectify import ACTIONS
from synfer.images import encode_webp, load_images
from synfer.manifest import read_manifest
from synfer.vocabulary import EXPRESSIONS

_SIDE = 128  # pixels a face at most; the page holds a few hundred
_STRIP = 8  # faces of a class
_EXAMPLES = 6  # faces of an action


@dataclass(frozen=True)
class Headline:
    """A number in the header of the page, and what it says."""

    title: str
    metric: Metric
    note: str
    percent: bool = True


@dataclass(frozen=True)
class Strip:
    """Real and generated faces of one class, as data URIs of one picture each."""

    expression: str
    real: str
    generated: str


@dataclass(frozen=True)
class Example:
    """A generated face with what was asked, what it was labelled and why."""

    image: str
    asked: str
    label: str
    action: str
    reason: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Outcome:
    """The UAR and accuracy of the classifiers of one training set."""

    training_set: str
    metrics: Mapping[str, Metric]


_HEADLINES = (
    ("corpus/images", "real faces", "in the corpus, split by identity", False),
    ("generation/judge_accuracy", "judge agrees", "with the expression asked, on generated faces", True),
    ("generation/kid", "KID", "distance of generated from real faces; lower is better", False),
    ("rectification/kept", "released", "of the generated faces; the rest was rejected", True),
    ("rectification/agreement", "intents confirmed", "by the rectified label", True),
    ("classifiers/real+synthetic/uar", "UAR, real + synthetic", "mean class accuracy on real test faces", True),
)
CLASSIFIER_METRICS = ("uar", "accuracy", "macro_f1", "nll", "ece")
"""Columns of the table of results."""


def headlines(metrics: Mapping[str, Metric]) -> list[Headline]:
    """The numbers of the header, those that were measured."""
    return [Headline(title, metrics[key], note, percent) for key, title, note, percent in _HEADLINES if key in metrics]


def classifier_outcomes(metrics: Mapping[str, Metric]) -> list[Outcome]:
    """Test metrics of each training set, in the order real, synthetic, both."""
    names = dict.fromkeys(key.split("/")[1] for key in metrics if key.startswith("classifiers/") and key.endswith("/uar"))
    order = {name: rank for rank, name in enumerate(("real", "synthetic", "real+synthetic"))}
    found = []
    for name in sorted(names, key=lambda name: order.get(name, len(order))):
        keys = {short: f"classifiers/{name}/{short}" for short in CLASSIFIER_METRICS}
        found.append(Outcome(name, {short: metrics[key] for short, key in keys.items() if key in metrics}))
    return found


def strips(real: Path, generated: Path, classes: Sequence[str], *, image_size: int, seed: int) -> list[Strip]:
    """For each class some real faces and some generated ones, drawn at random from two dataset folders."""
    return [
        Strip(name, *(_strip(folder, name, image_size, seed) for folder in (real, generated))) for name in classes
    ]


def examples(rectified: pd.DataFrame, images: Path, *, image_size: int, seed: int) -> dict[str, list[Example]]:
    """A few faces of every action that was taken, drawn at random."""
    found = {}
    for action in ACTIONS:
        rows = rectified[rectified["action"] == action]
        rows = rows.sample(min(_EXAMPLES, len(rows)), random_state=seed)
        if len(rows):
            faces = load_images(images, rows["sample_id"].tolist(), size=min(image_size, _SIDE))
            found[action] = [_example(row, face) for (_, row), face in zip(rows.iterrows(), faces, strict=True)]
    return found


def data_uri(data: bytes, kind: str) -> str:
    """Bytes of an image as a URI that a page can hold; `kind` is png or webp."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _strip(folder: Path, expression: str, image_size: int, seed: int) -> str:
    frame = read_manifest(folder)
    rows = frame[frame["expression"] == expression]
    chosen = rows.sample(min(_STRIP, len(rows)), random_state=seed)["sample_id"].tolist()
    side = min(image_size, _SIDE)
    faces: Iterable[np.ndarray] = load_images(folder, chosen, size=side)
    empty = np.full((side, side, 3), 235, np.uint8)  # a class with fewer faces leaves places empty
    return data_uri(encode_webp(np.concatenate([*faces, *[empty] * (_STRIP - len(chosen))], axis=1), quality=92), "webp")


def _example(row: pd.Series, face: np.ndarray) -> Example:
    posterior = np.asarray(row["posterior"])
    top = tuple((EXPRESSIONS[index], float(posterior[index])) for index in np.argsort(-posterior, kind="stable")[:3])
    image = data_uri(encode_webp(face, quality=92), "webp")
    return Example(image, row["expression"] or row.get("compound", ""), row["label"], row["action"], row["reason"], top)
