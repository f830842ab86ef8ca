"""Stage rectification: what FERAnno and the annotators see in each generated face, pooled with what was asked, gives label and action.

Everything is calibrated and every threshold chosen on val, whose intents are simulated (see `synfer.annotation.rectify`). The manifest
gains label, posterior, entropy, agreement, action, reason, weight and the members' calibrated probabilities `p_<member>`; all rows stay.
A softened row is to be trained on its posterior, a kept or relabelled one on its label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from components.device import torch_device
from components.feature_store import feature_reader
from components.fer_models import class_probabilities
from components.feranno import PREDICTIONS
from components.image_stream import image_batches
from components.rectification_record import HeldOut, Outcome, record_outcome
from synfer.annotation.calibration import AnnotationError, as_scores
from synfer.annotation.feranno import load_feranno
from synfer.annotation.intent import IntentNoise, estimate_noise, posterior
from synfer.annotation.pooling import Members, Pool, fit_pool
from synfer.annotation.reasons import reasons
from synfer.annotation.rectify import ACTIONS, Thresholds, choose_thresholds, decide
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import Classifier, load
from synfer.config import Common, Rectification
from synfer.diffusion.backbone import load_backbone
from synfer.images import load_images
from synfer.manifest import read_manifest, stack, write_manifest
from synfer.seeding import derive_seed
from synfer.vocabulary import EXPRESSIONS

HEAD = "FERAnno"
_SIMULATIONS = 10  # draws of every val intent: the noise of one draw would move the thresholds


def run(
    section: Rectification,
    common: Common,
    *,
    development: Path,
    generator: Path,
    synthesis: Path,
    feranno: Path,
    fer_models: Path,
    out: Path,
) -> None:
    """Write `manifest.parquet` with the rectified columns to `out`."""
    frame, classes = read_manifest(synthesis), common.expressions
    annotators = {folder.name: load(folder, device=torch_device(common.device)) for folder in sorted(fer_models.glob("annotator_*"))}
    val_members, val_labels = _val_scores(development, feranno, annotators, common)
    members = _synthetic_scores(frame, synthesis, generator, feranno, annotators, common, section.batch_size)
    pool = fit_pool(val_members, val_labels, rule=section.pool)
    noise = estimate_noise(pool(members), class_indices(frame["expression"].tolist(), classes))
    held_out = _simulate(pool(val_members), val_labels, noise, section.intent_strength, derive_seed(common.seed, "rectification"))
    thresholds = choose_thresholds(
        held_out.posterior, held_out.labels, target=section.target_precision, min_coverage=section.min_coverage
    )
    rectified = _with_decisions(frame, pool, members, noise, thresholds, classes=classes, strength=section.intent_strength)
    write_manifest(rectified, out)
    outcome = Outcome(rectified, pool, noise, thresholds, val_members, val_labels, held_out)
    record_outcome(outcome, classes, images=synthesis, image_size=common.image_size, out=out)


def _with_decisions(
    frame: pd.DataFrame, pool: Pool, members: Members, noise: IntentNoise, thresholds: Thresholds, *, classes: Sequence[str],
    strength: float,
) -> pd.DataFrame:  # fmt: skip
    """The manifest with the columns that rectification adds."""
    intents = class_indices(frame["expression"].tolist(), classes)
    result = posterior(pool(members), intents, noise, strength=strength)
    calibrated = pool.calibrated(members)
    choices = {name: probabilities.argmax(axis=1) for name, probabilities in calibrated.items()}
    decisions = decide(result, intents, np.stack(list(choices.values())), thresholds)
    return frame.assign(
        label=[classes[index] for index in decisions.label],
        posterior=_over_expressions(result, classes),
        entropy=decisions.entropy.astype(np.float32),
        agreement=decisions.agreement.astype(np.float32),
        action=[ACTIONS[index] for index in decisions.action],
        reason=reasons(result, intents, choices, decisions, thresholds, classes=classes),
        weight=decisions.weight,
        **{f"p_{name}": _over_expressions(probabilities, classes) for name, probabilities in calibrated.items()},
    )


def _simulate(pooled: np.ndarray, labels: np.ndarray, noise: IntentNoise, strength: float, seed: int) -> HeldOut:
    """Val `_SIMULATIONS` times, each time with other intents."""
    labels = np.tile(labels, _SIMULATIONS)
    intents = noise.simulate(labels, np.random.default_rng(seed))
    return HeldOut(posterior(np.tile(pooled, (_SIMULATIONS, 1)), intents, noise, strength=strength), labels, intents)


def _val_scores(
    development: Path, feranno: Path, annotators: dict[str, Classifier], common: Common
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores (N, K) of every member on the real val faces and their labels (N,); FERAnno's were left by its own stage."""
    frame = read_manifest(development)
    frame = frame[(frame["split"] == "val") & frame["expression"].isin(common.expressions)]
    left = pq.read_table(feranno / PREDICTIONS).to_pandas().set_index("sample_id")
    if missing := set(frame["sample_id"]) - set(left.index):
        raise AnnotationError(f"{feranno / PREDICTIONS} knows no val sample {min(missing)!r}; FERAnno was trained on another corpus")
    pixels = load_images(development, frame["sample_id"].tolist(), size=common.image_size)
    scores = {name: as_scores(class_probabilities(model, pixels, common)) for name, model in annotators.items()}
    scores[HEAD] = stack(left.loc[frame["sample_id"]], "logits")
    return scores, class_indices(frame["expression"].tolist(), common.expressions)


def _synthetic_scores(
    frame: pd.DataFrame, synthesis: Path, generator: Path, feranno: Path, annotators: dict[str, Classifier], common: Common, batch_size: int
) -> dict[str, np.ndarray]:
    """Scores (N, K) of every member on the generated images, in one stream; rows follow the manifest."""
    device = torch_device(common.device)
    head, card = load_feranno(feranno, device=device)
    backbone = load_backbone(generator / "backbone", device=device)
    read = feature_reader(backbone, timestep=card["timestep"], seed=common.seed)
    position = {sample_id: row for row, sample_id in enumerate(frame["sample_id"])}
    scores = {name: np.empty((len(frame), len(common.expressions))) for name in (*annotators, HEAD)}
    sample_ids = frame["sample_id"].tolist()
    for batch_ids, pixels in image_batches(synthesis, sample_ids, size=backbone.image_size, batch_size=batch_size, title="rectification"):
        rows = [position[sample_id] for sample_id in batch_ids]
        with torch.inference_mode():
            scores[HEAD][rows] = head(*read(pixels, batch_ids)).float().cpu().numpy()
        for name, model in annotators.items():
            scores[name][rows] = as_scores(class_probabilities(model, pixels, common))
    return scores


def _over_expressions(probabilities: np.ndarray, classes: Sequence[str]) -> pd.Series[Any]:
    """Rows (K,) spread over the vocabulary's expressions; those that are no class get 0."""
    wide = np.zeros((len(probabilities), len(EXPRESSIONS)), dtype=np.float32)
    wide[:, [EXPRESSIONS.index(name) for name in classes]] = probabilities
    return pd.Series(list(wide))
