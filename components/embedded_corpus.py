"""The embedded corpus `data/faces`: rendered people with labels from simulated annotators, split by identity.

Identities 0..599 are this corpus's own; the models of `assets/` learn from identities 10,000 on, so that none of them has met a face of it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from synfer.captions import caption
from synfer.faces.annotators import vote
from synfer.faces.face import Face, draw_face
from synfer.faces.identity import draw_identity
from synfer.faces.renderer import render
from synfer.files import replace_folder, write_json
from synfer.images import encode_webp, write_shard
from synfer.manifest import write_manifest
from synfer.seeding import derive_seed
from synfer.vocabulary import ATTRIBUTES, DEFAULT_EXPRESSIONS, EXPRESSIONS

IDENTITIES, IMAGES_PER_IDENTITY = 600, 10
SPLIT_SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
_SHARD_IMAGES = 1000


def write_corpus(
    out: Path, *, seed: int = 0, identities: int = IDENTITIES, images_per_identity: int = IMAGES_PER_IDENTITY, size: int = 64
) -> pd.DataFrame:
    """Render the corpus into the dataset folder `out`, in place of an older one; returns its manifest.

    The seven default expressions are balanced in every split. `expression` is what the majority of ten simulated annotators says, and so is
    the caption's; `true_expression` and `aus` are the truth. The files depend on the arguments alone.
    """
    faces = list(_plan(seed, identities, images_per_identity))
    splits = _splits(identities)
    work = out.with_name(f".{out.name}.partial")
    shutil.rmtree(work, ignore_errors=True)  # of a killed call
    rows: list[dict[str, Any]] = []
    for number, start in enumerate(tqdm(range(0, len(faces), _SHARD_IMAGES), desc="rendering", unit="shard")):
        chunk = faces[start : start + _SHARD_IMAGES]
        images = [encode_webp(pixels) for pixels in render(chunk, size=size)]
        pairs = zip(chunk, images, strict=True)
        described = [_row(face, data, splits[face.identity], index) for index, (face, data) in enumerate(pairs, start)]
        # Without checksums the corpus stays, to the byte, the one that data.dvc names.
        write_shard(work, number, [row["sample_id"] for row in described], images, suffix="webp", checksums=False)
        rows += described
    frame = pd.DataFrame(rows)
    write_manifest(frame, work)
    write_json(work / "card.json", _card(frame, seed=seed, identities=identities, images_per_identity=images_per_identity, size=size))
    replace_folder(work, out)
    return frame


def _plan(seed: int, identities: int, images_per_identity: int) -> Iterator[Face]:
    """Every face in order; expressions take turns, so that each split is balanced."""
    for index in range(identities * images_per_identity):
        identity = index // images_per_identity
        expression = DEFAULT_EXPRESSIONS[index % len(DEFAULT_EXPRESSIONS)]
        yield draw_face(derive_seed("faces", seed, index), identity=identity, expression=expression)


def _splits(identities: int) -> list[str]:
    """Split of each identity: the first for training, the last for the test."""
    bounds = np.round(np.cumsum(list(SPLIT_SHARES.values())) * identities)
    return [list(SPLIT_SHARES)[int(np.searchsorted(bounds, identity, side="right"))] for identity in range(identities)]


def _row(face: Face, data: bytes, split: str, index: int) -> dict[str, Any]:
    """The manifest row of a face and its encoded image."""
    rng = np.random.default_rng((face.seed, 1))  # a stream beside the one that drew the face
    votes = vote(face.expression, face.aus, rng)
    label = majority(votes, rng)
    attributes = draw_identity(face.identity).attributes
    return {
        "sample_id": f"face-{index:05d}",
        "split": split,
        "identity": f"person-{face.identity:05d}",
        "expression": label,
        "caption": caption(label, attributes=attributes, aus=face.aus, rng=rng),
        "aus": face.aus,
        "seed": face.seed,
        "sha256": hashlib.sha256(data).hexdigest(),
        "true_expression": face.expression,
        "votes": votes,
        **{f"attr_{name}": attributes[name] for name in ATTRIBUTES},
    }


def majority(votes: np.ndarray, rng: np.random.Generator) -> str:
    """The default expression with the most of the votes (8,); a tie is broken at random."""
    counts = votes[[EXPRESSIONS.index(name) for name in DEFAULT_EXPRESSIONS]]
    return DEFAULT_EXPRESSIONS[int(rng.choice(np.flatnonzero(counts == counts.max())))]


def _card(frame: pd.DataFrame, *, seed: int, identities: int, images_per_identity: int, size: int) -> dict[str, Any]:
    """What the corpus is, in numbers."""
    return {
        "name": "faces",
        "description": "Faces rendered from action units, labelled by ten simulated annotators",
        "command": f"synfer corpus --seed {seed}",
        "license": "CC0-1.0",
        "image_size": size,
        "identities": identities,
        "images_per_identity": images_per_identity,
        "images": {str(split): int(count) for split, count in frame["split"].value_counts().items()},
        "label_accuracy": round(float((frame["expression"] == frame["true_expression"]).mean()), 4),
    }
