"""Nearest references of generated faces in pixel space and in the features of a judge, and the closest pairs as a sheet.

A generator learns from every face and from its mirror image, so a face is as far from a reference as from the nearer of the two views, from
training and held-out ones alike.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from components.audits.references import References
from synfer.classifiers.models import Classifier
from synfer.classifiers.predict import features
from synfer.faces.sheet import labelled_sheet
from synfer.images import resize
from synfer.metrics.memorisation import Memorisation, downsampled, memorisation

FEATURE, PIXEL = "feature", "pixel"
_SHOWN_SIDE = 128  # pixels a face at most; smaller ones are shown twice as large

Space = Callable[[np.ndarray], np.ndarray]
"""Images uint8 (N, H, W, 3) to vectors (N, D) whose Euclidean distance is measured."""


@dataclass(frozen=True, eq=False)
class SheetRow:
    """A row of a sheet: images uint8 (N, H, W, 3) with a title each, and what they are."""

    name: str
    images: np.ndarray
    titles: list[str]


def spaces(judge: Classifier, device: torch.device) -> dict[str, Space]:
    """Penultimate features of the judge, and faces averaged to 16 x 16 pixels."""
    return {FEATURE: lambda faces: features(judge, faces, device=device), PIXEL: downsampled}


def nearest_references(
    sets: Mapping[str, np.ndarray], references: References, space: Space, *, seed: int, title: str
) -> dict[str, Memorisation]:
    """Memorisation of every set of images in one space, by the nearer view; of N references, rows from N on are mirrored ones."""
    training, held_out = (
        np.concatenate([space(faces.images), space(faces.images[:, :, ::-1])]) for faces in (references.training, references.held_out)
    )
    seen, unseen = references.training.people * 2, references.held_out.people * 2
    return {
        name: memorisation(space(images), training, held_out, training_people=seen, held_out_people=unseen, seed=seed)
        for name, images in tqdm(sets.items(), desc=f"{title} space", unit="set", leave=False)
    }


def closest_rows(found: Memorisation, images: np.ndarray, references: References, *, count: int) -> tuple[np.ndarray, list[SheetRow]]:
    """The images nearest to a training face, int (count,), and three rows: they, that face, the nearest held-out one, with distances."""
    rows = found.closest(count)
    training, held_out = (
        views(faces.images, nearest[rows])
        for faces, nearest in ((references.training, found.training), (references.held_out, found.held_out))
    )
    seen, unseen = ([f"{one:.3f}" for one in distances[rows]] for distances in (found.training_distances, found.held_out_distances))
    return rows, [
        SheetRow("generated", images[rows], [f"face {row}" for row in rows]),
        SheetRow("nearest training", training, seen),
        SheetRow("nearest held-out", held_out, unseen),
    ]


def sheet_of(rows: Iterable[SheetRow]) -> Image.Image:
    """Rows of equal length as one sheet."""
    rows = list(rows)
    images = np.concatenate([row.images for row in rows])
    shown = np.stack([resize(image, min(image.shape[0], _SHOWN_SIDE)) for image in images])
    titles = [title for row in rows for title in row.titles]
    scale = 2 if shown.shape[1] < _SHOWN_SIDE else 1
    return labelled_sheet(shown, columns=len(rows[0].images), row_titles=[row.name for row in rows], titles=titles, scale=scale)


def views(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of N reference images (N, H, W, 3) those at `rows`, mirrored from row N on."""
    shown = images[rows % len(images)]
    return np.where((rows >= len(images))[:, None, None, None], shown[:, :, ::-1], shown)
