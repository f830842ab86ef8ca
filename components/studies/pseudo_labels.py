"""The control of all studies: labels that the members of the annotation give to real faces whose label nobody tells them.

Without it a gain from generated faces may only be what the annotators know, handed on to the classifier.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.member_scores import Onlooker, folder_scores, held_out_scores
from components.rectification import with_decisions
from components.workspace import Workspace
from synfer.annotation.rectifier import rectify_labels
from synfer.config import Config
from synfer.manifest import read_manifest, write_manifest
from synfer.seeding import derive_seed


def write_pseudo_labels(config: Config, models: Workspace, unlabelled: Path, out: Path) -> None:
    """Write the manifest of the dataset folder `unlabelled` with labels, actions and weights, as rectification does, to `out`.

    Members and thresholds are those that rectify generated faces; only the intent, which real faces have not, is no witness.
    """
    section, classes = config.rectification, config.common.expressions
    generator, feranno, fer_models = (models.stage(name) for name in ("generator", "feranno", "fer_models"))
    onlooker = Onlooker(generator, feranno, fer_models, config.common, section.batch_size, config.common.device)
    development = models.stage("corpus") / "development"
    held_out = held_out_scores(onlooker.members, development=development, feranno=feranno, batch_size=section.batch_size)
    frame = read_manifest(unlabelled)
    with tempfile.TemporaryDirectory(dir=out, prefix=".scores-") as work:
        scores, _ = folder_scores(onlooker, unlabelled, frame["sample_id"].tolist(), work=Path(work))
    decided = rectify_labels(
        scores, None, held_out, classes=classes, pool=section.pool, target_precision=section.target_precision,
        min_coverage=section.min_coverage, seed=derive_seed(config.common.seed, "studies", "pseudo-labels"),
    )  # fmt: skip
    write_manifest(with_decisions(frame, decided), out)
