"""Cells that look at generated faces: what the judge sees against what they are labelled, and realism against real test faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from components.classifier_scores import Bootstrap, bootstrap_settings
from components.corpus import take_balanced
from components.fer_models import class_probabilities, people, read_roles
from components.generator_role import read_generator_role
from components.latent_guide_role import read_latent_guide_role
from components.record import Metric
from components.studies.bench import Bench
from components.studies.cell import Cell, Outcome
from components.studies.pool import DRAWINGS
from synfer.classifiers.models import load
from synfer.classifiers.predict import features
from synfer.images import load_images
from synfer.manifest import read_manifest
from synfer.metrics.bootstrap import Interval
from synfer.metrics.image import kid, kid_floor, precision, recall
from synfer.metrics.roles import JUDGE, Role, check_roles

KIND = "generation"


def run(cell: Cell, bench: Bench, work: Path) -> Outcome:
    """Judge the faces of the cell's only part; raises RoleConflict, before any work, if the judge is not independent."""
    (part,) = cell.parts
    check_judge(bench)
    models = bench.pool.base.stage("fer_models")
    judge = load(models / JUDGE, device=bench.device)
    blocks = range(-(-part.count // bench.pool.block))
    rows = [(number, bench.synthetic_rows(part.drawn, number)) for number in blocks]
    asked = "label" if DRAWINGS[part.drawn].rectified else "expression"
    limit = bench.config.evaluation.judged_images
    kept = [(number, frame[frame["action"] != "reject"] if "action" in frame else frame) for number, frame in rows]
    frame = take_balanced(pd.concat([each.assign(_block=number) for number, each in kept], ignore_index=True), limit)
    frame = frame.sort_values("_block", kind="stable")
    images = np.concatenate([_images(bench, part.drawn, number, frame[frame["_block"] == number]) for number in frame["_block"].unique()])
    seen = class_probabilities(judge, images, bench.common)
    columns = {f"p_{name}": seen[:, index] for index, name in enumerate(bench.common.expressions)}
    predictions = pd.DataFrame({"sample_id": frame["sample_id"].to_numpy(), "truth": frame[asked].to_numpy(), **columns})
    real, fake = (features(judge, faces, device=bench.device) for faces in (bench.test().images, images))
    return Outcome(_realism(real, fake, bootstrap_settings(bench.config.evaluation, bench.common)), predictions)


def check_judge(bench: Bench) -> None:
    """Raise RoleConflict if the judge shares weights or people with any other role, the test split among them."""
    base = bench.pool.base
    test = Role("", frozenset(people(read_manifest(bench.pool.corpus / "test"))))
    others = {"the generator": read_generator_role(base.stage("generator")), "the test split": test}
    guide = read_latent_guide_role(base.stage("generator") / "backbone")
    check_roles({**read_roles(base.stage("fer_models")), **guide, **others})


def _images(bench: Bench, drawn: str, number: int, rows: pd.DataFrame) -> np.ndarray:
    folder = bench.pool.faces(drawn, number).stage("synthesis")
    return load_images(folder, rows["sample_id"].tolist(), size=bench.common.image_size)


def _realism(real: np.ndarray, fake: np.ndarray, settings: Bootstrap) -> dict[str, Metric]:
    found = {
        "kid": kid(real, fake, confidence=settings["confidence"], seed=settings["seed"]),
        "kid_floor": kid_floor(real, confidence=settings["confidence"], seed=settings["seed"]),
        "precision": precision(real, fake, resamples=settings["resamples"], seed=settings["seed"]),
        "recall": recall(real, fake, resamples=settings["resamples"], seed=settings["seed"]),
    }
    return {name: _metric(value) for name, value in found.items()}


def _metric(found: Interval) -> Metric:
    return Metric(found.value, found.low, found.high, found.n)
