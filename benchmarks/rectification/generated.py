"""Part 1: label error of generated faces before and after rectification, by a judge that had no other role.

The judge stands for the truth and errs itself; its error on the test split, whose truth is known, is reported beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.rectification.faces import Faces, read_faces
from benchmarks.rectification.noise import CONFUSION, inject
from benchmarks.rectification.run_folder import RunFolder
from components.device import torch_device
from synfer.annotation.rectifier import Rectified, rectify_labels
from synfer.classifiers.models import Classifier
from synfer.classifiers.predict import predict
from synfer.images import load_images
from synfer.manifest import read_manifest
from synfer.metrics.bootstrap import Interval, mean_interval
from synfer.seeding import derive_seed

SWAPPED = 0.2
"""Share of the intents that are also swapped, to see what rectification would do about a generator that misses so often."""


@dataclass(frozen=True)
class Generated:
    """Generated faces: images uint8 (N, H, W, 3), intent (N,), what the judge sees (N,), and their rectification.

    `swapped` (N,) are the intents with a fifth of them put to what people confuse it with, as of a generator that often misses.
    """

    images: np.ndarray
    intents: np.ndarray
    judged: np.ndarray
    rectified: Rectified
    swapped: np.ndarray
    rectified_swapped: Rectified


def generated(run: RunFolder, judge: Classifier, synthesis: Path, work: Path) -> Generated:
    """Rectify the faces of a synthesis folder as the stage does, and let the judge look."""
    frame, common, section = read_manifest(synthesis), run.config.common, run.config.rectification
    faces = read_faces(run, frame, synthesis, work)
    swapped = inject(faces.labels, SWAPPED, CONFUSION, classes=common.expressions, seed=derive_seed("rectification", "swapped"))
    found, found_swapped = (
        rectify_labels(
            faces.members, intents, run.held_out, classes=common.expressions, pool=section.pool, intent_strength=section.intent_strength,
            target_precision=section.target_precision, min_coverage=section.min_coverage, seed=derive_seed(common.seed, "rectification"),
        )
        for intents in (faces.labels, swapped)
    )  # fmt: skip
    images = load_images(synthesis, frame["sample_id"].tolist(), size=common.image_size)
    return Generated(images, faces.labels, judge_choice(judge, images, run), found, swapped, found_swapped)


def judge_choice(judge: Classifier, images: np.ndarray, run: RunFolder) -> np.ndarray:
    """The class (N,) that the judge sees."""
    columns = [judge.classes.index(name) for name in run.config.common.expressions]
    found = predict(judge, images, device=torch_device(run.config.common.device))
    return found[:, columns].argmax(axis=1)


def judge_error(run: RunFolder, judge: Classifier, test: Faces) -> Interval:
    """How often the judge errs on real test faces."""
    images = load_images(run.test, run.rows("test")["sample_id"].tolist(), size=run.config.common.image_size)
    return mean_interval((judge_choice(judge, images, run) != test.truth).astype(float))


def errors(faces: Generated) -> dict[str, Interval]:
    """Error of the intents and of the rectified labels that are used, and what rectification gains on the faces that it uses."""
    used = faces.rectified.decisions.weight > 0
    rectified, rectified_swapped = faces.rectified.decisions.label, faces.rectified_swapped.decisions.label
    wrong = [(labels != faces.judged).astype(float) for labels in (faces.intents, rectified, faces.swapped, rectified_swapped)]
    before, after, before_swapped, after_swapped = wrong
    keys = {
        "intent_error": mean_interval(before),
        "rectified_error": mean_interval(after[used]),
        "rectified_error_all": mean_interval(after),
        "rectified_more_than_intent": mean_interval(after - before),
        "rectified_coverage": mean_interval(used.astype(float)),
        "rectified_relabelled": mean_interval((rectified != faces.intents).astype(float)),
        "swapped_intent_error": mean_interval(before_swapped),
        "swapped_rectified_error_all": mean_interval(after_swapped),
    }
    noise = faces.rectified.noise
    return keys if noise is None else keys | {"intent_error_estimated": Interval(noise.wrong, noise.wrong, noise.wrong, len(before))}
