"""The arms of the study, and the same faces drawn under each of them.

Arms take turns at every batch, so that what else the machine does meanwhile falls on all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from components.guidance import LATENT, PUBLISHED
from components.synthesis import draw_faces
from synfer.classifiers.models import Classifier
from synfer.config import Synthesis
from synfer.diffusion.backbone import Backbone

NONE = "none"
FORMS = (PUBLISHED, LATENT)


@dataclass(frozen=True)
class Arm:
    """A form of guidance and its strength lambda."""

    form: str
    strength: float = 0.0

    def section(self, section: Synthesis) -> Synthesis:
        """The settings of synthesis under this arm."""
        form = {} if self.form == NONE else {"guidance_form": self.form}
        return section.model_copy(update={"semantic_guidance": self.strength, **form})

    def __str__(self) -> str:
        return self.form if self.form == NONE else f"{self.form} {self.strength:g}"


UNGUIDED = Arm(NONE)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Faces uint8 (N, H, W, 3) of one arm; wall and processor seconds of each batch, and the faces in it."""

    images: np.ndarray
    wall: np.ndarray
    processor: np.ndarray
    batch: np.ndarray

    def seconds(self, *, wall: bool) -> float:
        """Seconds a face."""
        return float((self.wall if wall else self.processor).sum() / self.batch.sum())


def arms(strengths: Sequence[float]) -> list[Arm]:
    """No guidance, then both forms at every strength."""
    return [UNGUIDED, *(Arm(form, strength) for form in FORMS for strength in strengths)]


def draw(study: Sequence[Arm], section: Synthesis, backbone: Backbone, guide: Classifier, rows: pd.DataFrame) -> dict[Arm, Drawn]:
    """The faces of the plan `rows` under every arm; a first small batch that is not counted warms up."""
    batches = [rows.iloc[start : start + section.batch_size] for start in range(0, len(rows), section.batch_size)]
    parts: dict[Arm, list[tuple[np.ndarray, float, float]]] = {arm: [] for arm in study}
    _timed(UNGUIDED, section, backbone, guide, rows.head(2))
    with tqdm(total=len(batches) * len(study), desc="draw", unit="batch") as bar:
        for batch in batches:
            for arm in study:
                parts[arm].append(_timed(arm, section, backbone, guide, batch))
                bar.update()
    sizes = np.array([len(batch) for batch in batches])
    return {arm: _drawn(taken, sizes) for arm, taken in parts.items()}


def _drawn(taken: list[tuple[np.ndarray, float, float]], sizes: np.ndarray) -> Drawn:
    images, wall, processor = zip(*taken, strict=True)
    return Drawn(np.concatenate(images), np.array(wall), np.array(processor), sizes)


def _timed(arm: Arm, section: Synthesis, backbone: Backbone, guide: Classifier, batch: pd.DataFrame) -> tuple[np.ndarray, float, float]:
    """Faces of a batch, wall seconds, and processor seconds; the faces are on the CPU, so a GPU has finished."""
    wall, processor = time.perf_counter(), time.process_time()
    images = draw_faces(arm.section(section), backbone, guide, batch)
    return images, time.perf_counter() - wall, time.process_time() - processor


def cost_is_wall_time(device: torch.device) -> bool:
    """Whether cost is wall time: a GPU's work is not in the process's own seconds, and those are what others do not disturb."""
    return device.type != "cpu"
