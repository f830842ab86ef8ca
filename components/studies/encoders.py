"""Encoders, trained without labels or with them, and their features of real faces: made once, shared by all studies that look at them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.studies import supervised
from components.studies.bench import Bench
from components.studies.cell import LABELLED, Cell, Part
from components.studies.compounds import Compounds, draw_compounds
from synfer.classifiers.loop import Schedule
from synfer.classifiers.models import create
from synfer.classifiers.predict import features
from synfer.classifiers.self_supervised import pretrain
from synfer.config import Config
from synfer.files import whole_folder, write_json
from synfer.seeding import derive_seed

RANDOM, MAE, SUPERVISED = "random", "mae", supervised.KIND
TRAIN, VAL, TEST, COMPOUND = "train", "val", "test", "compound"


@dataclass(frozen=True)
class Features:
    """Features float32 (N, D) of the labelled training faces, val, test, and the compound faces, where there are any."""

    of: Mapping[str, np.ndarray]


def encoder_settings(config: Config, method: str, images: int) -> dict[str, Any]:
    """What makes an encoder: method, network, and a length of about `studies.pretrain_steps` in whole epochs."""
    section, network = config.classifiers, config.studies.vit if method == MAE else config.classifiers.backbone
    if method == RANDOM:
        return {"method": method, "network": network, "epochs": 0, "rows": 0}
    batches = max(1, -(-images // section.pretrain_batch_size))
    return {"method": method, "network": network, "epochs": max(1, round(config.studies.pretrain_steps / batches)), "rows": images}


def encoded(cell: Cell, bench: Bench, work: Path) -> Features:
    """The features of the cell's encoder, which is trained unless another cell has done so; `work` keeps its checkpoint."""
    folder = features_folder(cell, bench)
    if not folder.is_dir():
        module = _trained(cell, bench, work)
        images = {TRAIN: bench.examples([_all_labelled(bench)], repeat=0).images, VAL: bench.val().images, TEST: bench.test().images}
        if (compounds := compound_faces(bench)) is not None:
            images[COMPOUND] = compounds.images
        with whole_folder(folder) as temporary:
            for name, faces in images.items():
                np.save(temporary / f"{name}.npy", features(module, faces, device=bench.device))
            write_json(temporary / "encoder.json", json.loads(_described(cell, bench)))
    return Features({path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))})


def features_folder(cell: Cell, bench: Bench) -> Path:
    """Where the features of a cell's encoder lie; cells with the same encoder share it."""
    digest = derive_seed(_described(cell, bench))
    return bench.pool.folder / f"features-{digest:016x}"


def compound_faces(bench: Bench) -> Compounds | None:
    """Rendered faces of compound expressions, the same ones in every study; None where the configuration wants none."""
    count = bench.config.studies.compound_faces
    return draw_compounds(count, size=bench.common.image_size, seed=bench.common.seed) if count else None


def _described(cell: Cell, bench: Bench) -> str:
    surroundings = bench.surroundings(cell)
    shown = {"encoder": cell.settings["encoder"], "parts": cell.describe()["parts"], "compounds": bench.config.studies.compound_faces}
    return json.dumps({**shown, "repeat": cell.repeat, "surroundings": surroundings}, sort_keys=True, default=str)


def _trained(cell: Cell, bench: Bench, work: Path) -> Any:
    settings, section, seed = cell.settings["encoder"], bench.config.classifiers, bench.seed(cell)
    if settings["method"] == RANDOM:
        return create(settings["network"], 0, image_size=bench.common.image_size, seed=seed)
    if settings["method"] == SUPERVISED:
        return supervised.trained(replace(cell, settings=settings), bench, work)[0]
    schedule = Schedule(settings["epochs"], section.pretrain_batch_size, section.learning_rate, precision=section.precision)
    return pretrain(
        bench.images(cell.parts, repeat=cell.repeat), method=settings["method"], backbone=settings["network"], schedule=schedule, seed=seed,
        device=bench.device, checkpoint=work / "checkpoint",
    )  # fmt: skip


def _all_labelled(bench: Bench) -> Part:
    return Part(LABELLED, len(bench.labelled))
