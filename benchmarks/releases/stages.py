"""What the commands read: class folders to import, and the stage folders from which a release is made, of faces that cost little."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.releases.commands import STAGES
from components.audits.finding import write_verdict
from components.record import Record
from components.validation import RESULT
from synfer.faces.face import Face, draw_face
from synfer.faces.renderer import render
from synfer.files import write_json
from synfer.images import encode_png, write_shard
from synfer.manifest import write_manifest
from synfer.seeding import derive_seed
from synfer.vocabulary import DEFAULT_EXPRESSIONS, EXPRESSIONS

PEOPLE = 900_000
"""First identity of the people who are drawn; they are in no other study."""

DISTINCT = 210
"""Faces that are rendered; all images are theirs, with other noise."""

SHARD_IMAGES = 1000


def write_stages(root: Path, count: int, *, size: int) -> None:
    """Class folders to import, and the stage folders from which a release is made, of `count` images; memory holds one shard."""
    faces = [
        draw_face(derive_seed("releases", number), identity=PEOPLE + number // 10, expression=DEFAULT_EXPRESSIONS[number % 7])
        for number in range(min(DISTINCT, count))
    ]
    for name in STAGES:
        (root / name).mkdir()
        Record(root / name).save()
    rows = list(_write_images(root, faces, render(faces, size=size), count))
    write_manifest(with_decisions(pd.DataFrame(rows)), root / "rectification")
    write_json(root / "validation" / RESULT, {"success": True, "critical": [], "warning": [], "expectations": []})
    write_verdict([], root / "audit")


def _write_images(root: Path, faces: list[Face], pixels: np.ndarray, count: int) -> Iterator[dict[str, Any]]:
    """Write all images, marked, into shards of `synthesis` and into `photographs/CLASS`; yield their rows of the manifest."""
    for number, start in enumerate(range(0, count, SHARD_IMAGES)):
        batch = range(start, min(start + SHARD_IMAGES, count))
        names = [f"syn-{index:06d}" for index in batch]
        images = [encode_png(noisy(pixels[index % len(faces)], index), generator="benchmark") for index in batch]
        write_shard(root / "synthesis", number, names, images)
        for index, name, data in zip(batch, names, images, strict=True):
            face = faces[index % len(faces)]
            path = root / "photographs" / face.expression / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            yield {
                "sample_id": name, "split": "val" if index % 5 == 4 else "train", "identity": "", "expression": face.expression,
                "caption": f"a face, number {index}", "aus": face.aus, "seed": index, "sha256": hashlib.sha256(data).hexdigest(),
            }  # fmt: skip


def noisy(pixels: np.ndarray, seed: int) -> np.ndarray:
    """The image with a little noise of its own, uint8 (H, W, 3)."""
    noise = np.random.default_rng(derive_seed("releases noise", seed)).integers(-2, 3, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


def with_decisions(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of rectification: every tenth face is rejected, one in ten relabelled, one in ten softened."""
    place = np.arange(len(frame)) % 10
    frame["action"] = np.select([place == 9, place == 8, place == 7], ["reject", "relabel", "soften"], "keep")
    frame["label"] = np.where(place == 8, frame["expression"].shift(1), frame["expression"])
    one_hot = np.eye(len(EXPRESSIONS), dtype=np.float32)[[EXPRESSIONS.index(name) for name in frame["label"]]]
    frame["posterior"] = list(0.92 * one_hot + np.float32(0.01))
    return frame.assign(entropy=0.3, agreement=1.0, reason="both annotators see it", weight=(place != 9).astype(float))
