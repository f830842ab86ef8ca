"""The card of tiny-sd: how it was made and what was measured on the weights as they lie on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from components.assets.renders import Range, plan, trained_on
from components.plan import plan_faces
from components.synthesis import draw_faces
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import Classifier, load
from synfer.classifiers.predict import predict
from synfer.config import Synthesis
from synfer.diffusion.autoencoder import reconstruct
from synfer.diffusion.backbone import Backbone, load_backbone
from synfer.diffusion.training import Schedule
from synfer.faces.renderer import render
from synfer.files import write_json
from synfer.metrics.bootstrap import interval
from synfer.metrics.classification import ACCURACY
from synfer.vocabulary import DEFAULT_EXPRESSIONS

_JUDGED = 700
_BATCH = 70
_UNSEEN_PEOPLE = 900_000  # nobody's training identities
_CARD_SEED = 1_234_567


def measure(folder: Path, fer_models: Path) -> dict[str, dict[str, float]]:
    """Judge accuracy, with its interval, on unseen renders, on their reconstructions, and on unguided and guided generated faces."""
    backbone = load_backbone(folder).requires_grad_(False)
    judge, guide = load(fer_models / "judge"), load(fer_models / "guide")
    wanted = Range(_JUDGED, _UNSEEN_PEOPLE, _CARD_SEED)
    truth = [face.expression for face in plan(wanted)]
    images = render(plan(wanted), size=backbone.image_size)
    return {
        "renders": _accuracy(judge, images, truth),
        "reconstructions": _accuracy(judge, reconstruct(backbone.vae, images), truth),
        "generated": _generated(backbone, judge, guide, semantic_guidance=0.0),
        "generated_guided": _generated(backbone, judge, guide, semantic_guidance=Synthesis().semantic_guidance),
    }


def write_card(folder: Path, measured: Mapping[str, object], *, faces: Range, schedules: Mapping[str, Schedule]) -> Path:
    """Write `card.json`: command, seed, data, schedules, size, and the judge's accuracies."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    card = {
        "command": "make assets", "seed": faces.seed, "renders": asdict(faces), "trained_on": trained_on(faces),
        "schedules": {name: asdict(schedule) for name, schedule in schedules.items()}, "bytes": size, "judge_accuracy": dict(measured),
    }  # fmt: skip
    return write_json(folder / "card.json", card)


def _generated(backbone: Backbone, judge: Classifier, guide: Classifier, *, semantic_guidance: float) -> dict[str, float]:
    rows = plan_faces(_JUDGED, expressions=DEFAULT_EXPRESSIONS, seed=_CARD_SEED)
    section = Synthesis(semantic_guidance=semantic_guidance)
    parts = [draw_faces(section, backbone, guide, rows.iloc[start : start + _BATCH]) for start in range(0, _JUDGED, _BATCH)]
    return _accuracy(judge, np.concatenate(parts), rows["expression"].tolist())


def _accuracy(judge: Classifier, images: np.ndarray, expressions: list[str]) -> dict[str, float]:
    found = interval(ACCURACY, class_indices(expressions, judge.classes), predict(judge, images))
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
