"""Does a face show the asked expression? By text alone, by text and AUs, and under semantic guidance, as the expression judge sees it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from tqdm import tqdm

from components.plan import plan_faces
from components.synthesis import draw_faces
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import Classifier
from synfer.classifiers.predict import predict
from synfer.config import Synthesis
from synfer.diffusion.backbone import Backbone
from synfer.metrics.bootstrap import Interval, difference, interval
from synfer.metrics.classification import ACCURACY
from synfer.vocabulary import AU_COUNT, DEFAULT_EXPRESSIONS

PLAN_SEED = 424_242  # no other report draws this plan


def judged_expressions(section: Synthesis, backbone: Backbone, guide: Classifier, judge: Classifier, *, images: int) -> dict[str, Interval]:
    """The judge's accuracy on the same plan under `text`, `text_au` and `guided`, and what AUs and guidance add, paired by face."""
    rows = plan_faces(images, expressions=DEFAULT_EXPRESSIONS, seed=PLAN_SEED)
    truth = class_indices(rows["expression"].tolist(), judge.classes)
    unguided = section.model_copy(update={"semantic_guidance": 0.0})
    without_aus = rows.assign(aus=rows["aus"].map(lambda _: np.full(AU_COUNT, np.nan, np.float32)))
    drawn = {
        "text": _draw(unguided, backbone, None, without_aus, title="text"),
        "text_au": _draw(unguided, backbone, None, rows, title="text and AUs"),
        "guided": _draw(section, backbone, guide, rows, title="text, AUs, guidance"),
    }
    return scores(truth, {name: predict(judge, faces, device=backbone.device) for name, faces in drawn.items()})


def scores(truth: np.ndarray, probabilities: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """Accuracy of every form, and of `text_au` over `text` and `guided` over `text_au` on the same rows."""
    found = {f"judge_{name}": interval(ACCURACY, truth, rows) for name, rows in probabilities.items()}
    gains = {"gain_au": ("text_au", "text"), "gain_guidance": ("guided", "text_au")}
    pairs = {name: (probabilities[ours], probabilities[theirs]) for name, (ours, theirs) in gains.items()}
    return found | {name: difference(ACCURACY, truth, *pair) for name, pair in pairs.items()}


def _draw(section: Synthesis, backbone: Backbone, guide: Classifier | None, rows: pd.DataFrame, *, title: str) -> np.ndarray:
    with tqdm(total=len(rows), desc=title, unit="face") as bar:
        parts = []
        for start in range(0, len(rows), section.batch_size):
            parts.append(draw_faces(section, backbone, guide, rows.iloc[start : start + section.batch_size]))
            bar.update(len(parts[-1]))
    return np.concatenate(parts)
