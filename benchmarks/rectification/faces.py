"""Faces of the study: what every member sees in them, kept on disk so that a repeated study is cheap."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.rectification.run_folder import TRUTH, RunFolder
from components.fer_models import people
from synfer.annotation.feranno import CARD
from synfer.classifiers.examples import class_indices
from synfer.classifiers.predict import features
from synfer.diffusion.backbone import backbone_sha256
from synfer.files import sha256, whole_file
from synfer.images import load_images

FEATURES = "annotator_0"
"""The annotator whose penultimate features the rival that trains on the noisy labels sees."""

_BATCH = 128


@dataclass(frozen=True)
class Faces:
    """N faces: person (N,), exact truth (N,), label of the annotators (N,), scores (N, K) by member, features (N, width)."""

    identities: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    members: Mapping[str, np.ndarray]
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)


def read_faces(run: RunFolder, rows: pd.DataFrame, folder: Path, work: Path) -> Faces:
    """The rows of a dataset folder as the members see them."""
    classes = run.config.common.expressions
    seen = seen_by_members(run, folder, rows["sample_id"].tolist(), work)
    truth = rows[TRUTH if TRUTH in rows.columns else "expression"].tolist()
    labels = class_indices(rows["expression"].tolist(), classes)
    return Faces(people(rows).to_numpy(dtype=str), class_indices(truth, classes), labels, seen, seen.pop("features"))


def seen_by_members(run: RunFolder, folder: Path, sample_ids: Sequence[str], work: Path) -> dict[str, np.ndarray]:
    """Scores (N, K) of every member by name, and `features` (N, width); read from `work` where the same models have seen the same faces."""
    path = work / f"seen-{_key(run, folder, sample_ids)}.npz"
    if not path.is_file():
        found = _look(run, folder, sample_ids)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **found)  # type: ignore[arg-type]  # its stub takes the names for those of its own arguments
    with np.load(path) as held:
        return {name: held[name] for name in held.files}


def _look(run: RunFolder, folder: Path, sample_ids: Sequence[str]) -> dict[str, np.ndarray]:
    members, parts = run.members, []
    for start in tqdm(range(0, len(sample_ids), _BATCH), desc=f"members look at {folder.name}", unit="batch"):
        batch = sample_ids[start : start + _BATCH]
        pixels = load_images(folder, batch, size=members.image_size)
        parts.append({**members.scores(pixels, batch), "features": features(members.annotators[FEATURES], pixels)})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _key(run: RunFolder, folder: Path, sample_ids: Sequence[str]) -> str:
    """Stands for the weights of all members, what they are used with, the images and their order."""
    weights = [sha256(path) for name in ("fer_models", "feranno") for path in sorted(run.stage(name).rglob("model.safetensors"))]
    manifest = sha256(folder / "manifest.parquet")
    settings = run.config.common.model_dump_json(), sha256(run.stage("feranno") / CARD)
    parts = (*weights, *settings, backbone_sha256(run.stage("generator") / "backbone"), manifest, *sample_ids)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
