"""How good the generated faces are: what an independent judge sees against what was asked, and realism against the real test faces.

The guide has steered the generation, so its own accuracy says little: the gap between guide and judge shows how much was won by fooling it.
Judge accuracy stands beside realism (KID with its floor, precision, recall) and a sheet to look at, since a judge alone can be fooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.classifier_scores import Bootstrap, RealFaces, bootstrap_settings, write_predictions
from components.corpus import take_balanced
from components.device import torch_device
from components.fer_models import class_probabilities
from components.guidance import LATENT, guide_probabilities, steered_by
from components.intervals import cell, keep
from components.plots import confusion_matrices, interval_bars
from components.record import Record
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import Classifier, load
from synfer.classifiers.predict import features
from synfer.config import Common, Evaluation
from synfer.diffusion.backbone import load_backbone
from synfer.faces.sheet import labelled_sheet
from synfer.images import load_images
from synfer.metrics.bootstrap import Interval, difference, interval
from synfer.metrics.classification import ACCURACY, confusion, recall_of
from synfer.metrics.image import kid, kid_floor, precision, recall

_SHEET_FACES = 5  # of either kind in a row


@dataclass(frozen=True)
class Judged:
    """Generated faces: rows of rectification, pixels uint8 (N, H, W, 3), intents (N,), and what judge and guide see, float (N, K).

    The guide is the one that steered, for the gap to the judge tells how much was won by fooling it; unsteered faces are shown to the guide
    of pixels.
    """

    rows: pd.DataFrame
    images: np.ndarray
    intent: np.ndarray
    judge: np.ndarray
    guide: np.ndarray


def score_generation(
    rectified: pd.DataFrame,
    *,
    synthesis: Path,
    fer_models: Path,
    generator: Path,
    faces: RealFaces,
    section: Evaluation,
    common: Common,
    record: Record,
) -> None:
    """Judge the generated faces and measure their realism; write predictions, metrics, tables and figures."""
    judge = load(fer_models / "judge", device=torch_device(common.device))
    rows = take_balanced(rectified[rectified["expression"].isin(common.expressions)], section.judged_images)
    if rows.empty:
        return  # compound expressions alone: no class that a judge could confirm
    images = load_images(synthesis, rows["sample_id"].tolist(), size=common.image_size)
    by_guide = _seen_by_guide(images, steered_by(synthesis), fer_models=fer_models, generator=generator, common=common)
    intent = class_indices(rows["expression"].tolist(), common.expressions)
    judged = Judged(rows, images, intent, class_probabilities(judge, images, common), by_guide)
    settings = bootstrap_settings(section, common)
    columns = {"sample_id": judged.rows["sample_id"].to_numpy(), "intent": judged.rows["expression"].to_numpy()}
    tables = {"judge": judged.judge, "guide": judged.guide}
    write_predictions(record.out / "predictions" / "generated.parquet", columns, tables, common.expressions)
    _agreement(judged, common.expressions, settings, record)
    _by_class(judged, common.expressions, settings, record)
    _realism(judged, judge, faces, settings, common, record)
    _sheet(judged, faces, common.expressions, record)


def _seen_by_guide(images: np.ndarray, form: str, *, fer_models: Path, generator: Path, common: Common) -> np.ndarray:
    device = torch_device(common.device)
    if form == LATENT:
        return guide_probabilities(load_backbone(generator / "backbone", device=device), images, common.expressions)
    return class_probabilities(load(fer_models / "guide", device=device), images, common)


def _agreement(judged: Judged, classes: Sequence[str], settings: Bootstrap, record: Record) -> None:
    by_judge, by_guide = (interval(ACCURACY, judged.intent, seen, **settings) for seen in (judged.judge, judged.guide))
    gap = difference(ACCURACY, judged.intent, judged.guide, judged.judge, **settings)
    found = {"judge_accuracy": by_judge, "guide_accuracy": by_guide, "guide_judge_gap": gap}
    kept = (judged.rows["action"] != "reject").to_numpy()
    if kept.any():
        label = class_indices(judged.rows.loc[kept, "label"].tolist(), classes)
        found["kept_judge_accuracy"] = interval(ACCURACY, label, judged.judge[kept], **settings)
    for key, value in found.items():
        keep(record, f"generation/{key}", value)
    titles = {
        "judge_accuracy": "judge agrees with the intent",
        "guide_accuracy": "guide agrees with the intent",
        "guide_judge_gap": "guide minus judge, paired",
        "kept_judge_accuracy": "judge agrees with the rectified label, kept images",
    }
    rows = [{"measure": titles[key], "value": cell(value), "images": value.n} for key, value in found.items()]
    record.table("Generated faces and what was asked of them", pd.DataFrame(rows))


def _by_class(judged: Judged, classes: Sequence[str], settings: Bootstrap, record: Record) -> None:
    counts = np.bincount(judged.intent, minlength=len(classes))
    found: dict[str, Interval] = {}
    for index, name in enumerate(classes):
        if counts[index]:  # a class of which nothing was asked has no accuracy
            value = interval(recall_of(index), judged.intent, judged.judge, **settings)
            found[name] = Interval(value.value, value.low, value.high, int(counts[index]))
            keep(record, f"generation/judge_accuracy/{name}", found[name])
    text = f"Share of {len(judged.intent)} generated faces in which the judge sees what was asked, by intended class."
    bars = interval_bars({"judge": found}, ylabel="judge accuracy")
    record.figure("judge_accuracy", bars, title="Does the judge see what was asked?", caption=text)
    seen_by = {"judge": judged.judge, "guide": judged.guide}
    matrices = {name: confusion(judged.intent, seen.argmax(axis=1), len(classes)) for name, seen in seen_by.items()}
    figure = confusion_matrices(matrices, classes, rows="intent", columns="seen as")
    text = "Per cent of each intended class, all generated faces that were judged."
    record.figure("intent_confusion", figure, title="Intent against what is seen", caption=text)


def _realism(judged: Judged, judge: Classifier, faces: RealFaces, settings: Bootstrap, common: Common, record: Record) -> None:
    device, seed = torch_device(common.device), settings["seed"]
    real, fake = (features(judge, images, device=device) for images in (faces.images, judged.images))
    found = {
        "kid": kid(real, fake, confidence=settings["confidence"], seed=seed),
        "kid_floor": kid_floor(real, confidence=settings["confidence"], seed=seed),
        "precision": precision(real, fake, resamples=settings["resamples"], seed=seed),
        "recall": recall(real, fake, resamples=settings["resamples"], seed=seed),
    }
    for key, value in found.items():
        keep(record, f"generation/{key}", value)
    titles = {
        "kid": "KID against real test faces",
        "kid_floor": "KID of one half of the real test faces against the other (floor)",
        "precision": "precision: share of generated faces among the real ones",
        "recall": "recall: share of real test faces among the generated ones",
    }
    extractor = f"penultimate features of the judge, {judge.module.architecture} {judge.sha256[:12]}"
    rows = [{"measure": titles[key], "value": cell(value), "images": value.n} for key, value in found.items()]
    record.table(f"Realism, on {extractor}; the KID intervals are the spread over subsets", pd.DataFrame(rows))


def _sheet(judged: Judged, faces: RealFaces, classes: Sequence[str], record: Record) -> None:
    """Real faces on the left, generated ones on the right, one row a class; as many a class as the rarest has."""
    counts = [np.bincount(labels, minlength=len(classes)) for labels in (faces.truth, judged.intent)]
    shown = min(_SHEET_FACES, int(np.min(counts)))
    if not shown:
        return  # a class without a face has no row to show
    gap = np.full((1, *faces.images.shape[1:]), 255, np.uint8)
    cells = []
    for index in range(len(classes)):
        cells += [_spread(faces.images[faces.truth == index], shown), gap, _spread(judged.images[judged.intent == index], shown)]
    sheet = labelled_sheet(np.concatenate(cells), columns=2 * shown + 1, row_titles=classes)
    text = "Left: real test faces of the class. Right: generated faces of which it was asked; every n-th one, none picked by hand."
    record.figure("real_beside_generated", sheet, title="Real beside generated", caption=text)


def _spread(images: np.ndarray, count: int) -> np.ndarray:
    """`count` images at even distances, so that one person's row does not fill the sheet."""
    return images[np.linspace(0, len(images) - 1, count).round().astype(int)]
