"""Looks at a generator while it trains: the same faces are drawn every time, and the guide says what they show.

The guide, and not the judge: whoever picks steps and settings by a model's opinion has used that model, and the judge must have had no
earlier part. It speaks once, in stage evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from components.fer_models import class_probabilities
from components.plan import plan_faces
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import Classifier
from synfer.config import Common
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.sampling import Conditions, decode, sample_latents
from synfer.faces.sheet import labelled_sheet
from synfer.files import whole_file
from synfer.images import resize
from synfer.manifest import stack
from synfer.seeding import derive_seed

SHOWN_SIZE = 128
"""Faces on sheets are at most this large, in pixels."""


@dataclass(frozen=True)
class Look:
    """The drawn faces uint8 (N, H, W, 3), what each should show, and the guide's accuracy on them."""

    images: np.ndarray
    expressions: tuple[str, ...]
    accuracy: float

    def sheet(self, classes: tuple[str, ...]) -> Image.Image:
        """A row an expression; expressions with more faces than others lose the last."""
        by_class = [[row for row, name in enumerate(self.expressions) if name == expression] for expression in classes]
        columns = min(map(len, by_class))
        shown = shrink(self.images[[row for rows in by_class for row in rows[:columns]]])
        return labelled_sheet(shown, columns=columns, row_titles=classes, scale=enlarged(shown))

    def strip(self, classes: tuple[str, ...]) -> np.ndarray:
        """The first face of every expression, side by side: uint8 (h, K h, 3)."""
        return np.concatenate(list(shrink(self.images[[self.expressions.index(name) for name in classes]])), axis=1)


def probe_faces(count: int, common: Common) -> pd.DataFrame:
    """What is drawn at every look: `count` planned faces, every expression at least once; not those of the synthesis."""
    count = max(count, len(common.expressions))
    return plan_faces(count, expressions=common.expressions, seed=derive_seed("look", common.seed))


def draw_probes(backbone: Backbone, probes: pd.DataFrame, *, batch_size: int) -> np.ndarray:
    """Faces uint8 (N, H, W, 3) of the probes, unsteered and with the library's own sampling."""
    return np.concatenate([_draw(backbone, probes.iloc[start : start + batch_size]) for start in range(0, len(probes), batch_size)])


def rate(images: np.ndarray, probes: pd.DataFrame, guide: Classifier, common: Common) -> Look:
    """What the guide sees in the drawn probes."""
    expressions = tuple(probes["expression"])
    found = class_probabilities(guide, images, common).argmax(axis=1)
    return Look(images, expressions, float((found == class_indices(expressions, common.expressions)).mean()))


def progress_sheet(strips: dict[int, Path], classes: tuple[str, ...], *, rows: int = 8) -> Image.Image:
    """The first face of every expression after the steps that `strips` names, a row a look; at most `rows`, evenly chosen."""
    steps = sorted(strips)
    chosen = [steps[index] for index in np.unique(np.linspace(0, len(steps) - 1, min(rows, len(steps))).round().astype(int))]
    faces = np.concatenate([np.stack(np.split(_read(strips[step]), len(classes), axis=1)) for step in chosen])
    return labelled_sheet(faces, columns=len(classes), row_titles=[f"step {step}" for step in chosen], scale=enlarged(faces))


def shrink(images: np.ndarray) -> np.ndarray:
    """Images of at most `SHOWN_SIZE` pixels a side."""
    return np.stack([resize(image, min(image.shape[0], SHOWN_SIZE)) for image in images])


def enlarged(images: np.ndarray) -> int:
    """How often a sheet enlarges them: small faces twice."""
    return 2 if images.shape[1] < SHOWN_SIZE else 1


def write_image(path: Path, image: Image.Image | np.ndarray) -> Path:
    """Write a PNG, whole or not at all."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    with whole_file(path) as temporary:
        picture.save(temporary, format="PNG")
    return path


def _draw(backbone: Backbone, rows: pd.DataFrame) -> np.ndarray:
    conditions = Conditions(rows["caption"].tolist(), stack(rows, "aus"), rows["seed"].tolist())
    return decode(backbone, sample_latents(backbone, conditions))


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
