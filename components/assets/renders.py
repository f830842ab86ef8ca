"""Renders to train embedded models on, kept on disk so that a resumed training need not draw them again.

Identities are numbered once for the whole project; nobody in two ranges is the same person.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from synfer.captions import caption
from synfer.faces.face import Face, draw_face
from synfer.faces.identity import draw_identity
from synfer.faces.renderer import render
from synfer.files import replace_folder, write_json
from synfer.metrics.roles import compact_identities
from synfer.seeding import derive_seed
from synfer.vocabulary import DEFAULT_EXPRESSIONS

# first identity of each range; data/faces has 0..9,999
GENERATOR, GUIDE, ANNOTATOR_0, ANNOTATOR_1, JUDGE, AU_JUDGE = range(10_000, 70_000, 10_000)
IMAGES_AN_IDENTITY = 6
_CHUNK = 512


@dataclass(frozen=True)
class Renders:
    """Rendered faces: images uint8 (N, H, W, 3) as a memory map, expression ("" where AUs are independent), aus (N, AU_COUNT), captions."""

    images: np.ndarray
    expressions: np.ndarray
    aus: np.ndarray
    captions: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def with_expression(self) -> np.ndarray:
        """Rows that have an expression."""
        return np.flatnonzero(self.expressions != "")


@dataclass(frozen=True)
class Range:
    """What to draw: `count` faces of the people from `first_identity` on; a share `independent` has random AUs and no expression."""

    count: int
    first_identity: int
    seed: int
    size: int = 64
    independent: float = 0.0


def renders(folder: Path, wanted: Range) -> Renders:
    """Faces of a range of identities, drawn on the first call and read from `folder` after it; a folder of another range is made anew."""
    if not _holds(folder, wanted):
        _draw(folder, wanted)
    table = pd.read_parquet(folder / "faces.parquet")
    return Renders(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        expressions=table["expression"].to_numpy(dtype=object),
        aus=np.stack(table["aus"].to_list()).astype(np.float32),
        captions=table["caption"].to_numpy(dtype=object),
    )


def plan(wanted: Range) -> list[Face]:
    """The faces of a range: expressions in turn, several images a person, the last share with independent AUs."""
    return [planned_face(wanted, number) for number in range(wanted.count)]


def planned_face(wanted: Range, number: int) -> Face:
    """Face `number` of the range's plan."""
    return draw_face(
        derive_seed("render", wanted.seed, wanted.first_identity, number),
        identity=wanted.first_identity + number // IMAGES_AN_IDENTITY,
        expression=DEFAULT_EXPRESSIONS[number % len(DEFAULT_EXPRESSIONS)],
        independent_aus=number >= wanted.count - round(wanted.count * wanted.independent),
    )


def trained_on(wanted: Range) -> dict[str, object]:
    """Number of images and the people on them, as the card of a model names them."""
    people = -(-wanted.count // IMAGES_AN_IDENTITY)
    return {"images": wanted.count, "identities": compact_identities(person(wanted.first_identity + number) for number in range(people))}


def person(identity: int) -> str:
    """Name of an identity in manifests and cards."""
    return f"person-{identity:05d}"


def face_caption(face: Face) -> str:
    """A training caption of a face, parts left out at random by the face's own seed."""
    rng = np.random.default_rng(derive_seed("caption", face.seed))
    return caption(face.expression, attributes=draw_identity(face.identity).attributes, aus=face.aus, rng=rng)


def _holds(folder: Path, wanted: Range) -> bool:
    card = folder / "card.json"
    return card.is_file() and json.loads(card.read_text(encoding="utf-8")) == asdict(wanted)


def _draw(folder: Path, wanted: Range) -> None:
    faces = plan(wanted)
    temporary = folder.with_name(f".{folder.name}.tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    shape = (wanted.count, wanted.size, wanted.size, 3)
    images = np.lib.format.open_memmap(temporary / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    for start in tqdm(range(0, wanted.count, _CHUNK), desc=f"render {folder.name}", unit_scale=_CHUNK, unit="face"):
        images[start : start + _CHUNK] = render(faces[start : start + _CHUNK], size=wanted.size)
    images.flush()
    rows = {
        "expression": [f.expression for f in faces],
        "caption": [face_caption(f) for f in faces],
        "aus": [f.aus.tolist() for f in faces],
    }
    pd.DataFrame(rows).to_parquet(temporary / "faces.parquet")
    write_json(temporary / "card.json", asdict(wanted))
    replace_folder(temporary, folder)
