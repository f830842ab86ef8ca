"""With whom generated faces are compared: faces that the generator has learned from, and as many that it never saw.

Both sets are chosen by one rule from equally large pools of one distribution, or half of all faces would not be the share of chance. The
rule looks for copies where a generator that takes words and action units would put them: for every generated face the face of the pool
whose conditions are nearest to those that were asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from components.assets.renders import Range, person, planned_face
from components.fer_models import people
from synfer.faces.face import Face
from synfer.faces.identity import draw_identity
from synfer.faces.renderer import render
from synfer.images import load_images, resize
from synfer.manifest import stack
from synfer.seeding import derive_seed
from synfer.vocabulary import ATTRIBUTES, EXPRESSIONS, MAX_INTENSITY

CARD = "card.json"
HELD_OUT = 800_000
"""First identity of rendered people who are in no training set."""

_RENDERED_AT_ONCE = 256
_DICE, _TINY = 8, 1e-3  # faces whose conditions are alike are chosen among by chance


@dataclass(frozen=True, eq=False)
class Faces:
    """Images uint8 (N, H, W, 3) and the person of each."""

    images: np.ndarray
    people: list[str]


@dataclass(frozen=True, eq=False)
class References:
    """Training and held-out faces, equally many, of one distribution, without a person in common."""

    training: Faces
    held_out: Faces


@dataclass(frozen=True, eq=False)
class Pool:
    """Faces to choose from: conditions float (N, D), see `conditions`, and what draws or loads those at rows int (M,)."""

    conditions: np.ndarray
    faces: Callable[[np.ndarray], Faces]

    def __len__(self) -> int:
        return len(self.conditions)


def rendered_range(backbone: Path) -> Range | None:
    """The renders that a backbone was trained on, from its card; None where the card does not name them."""
    card = backbone / CARD
    named = json.loads(card.read_text(encoding="utf-8")).get("renders") if card.is_file() else None
    return Range(**named) if named is not None else None


def rendered(wanted: Range, places: np.ndarray, *, title: str) -> Faces:
    """The faces at `places` int (N,) of a range's plan."""
    faces = [planned_face(wanted, int(number)) for number in places]
    starts = tqdm(range(0, len(faces), _RENDERED_AT_ONCE), desc=title, unit_scale=_RENDERED_AT_ONCE, unit="face", leave=False)
    images = np.concatenate([render(faces[start : start + _RENDERED_AT_ONCE], size=wanted.size) for start in starts])
    return Faces(images, [person(face.identity) for face in faces])


def render_pools(wanted: Range, count: int, *, size: int, seed: int) -> tuple[Pool, Pool]:
    """Pools of at most `count` renders of a range and of renders of unseen people at the same places of the plan, of `size` pixels.

    Recipes take a fifth of a millisecond each; a face is drawn when it is chosen.
    """
    rng = np.random.default_rng(derive_seed("audit candidates", seed))
    places = np.sort(rng.choice(wanted.count, min(wanted.count, count), replace=False))

    def pool(of: Range, title: str) -> Pool:
        recipes = [planned_face(of, int(place)) for place in tqdm(places, desc=f"recipes of {title}", unit="face", leave=False)]

        def faces(rows: np.ndarray) -> Faces:
            found = rendered(of, places[rows], title=title)
            return Faces(np.stack([resize(image, size) for image in found.images]), found.people)

        return Pool(conditions(recipe_rows(recipes)), faces)

    return pool(wanted, "training faces"), pool(replace(wanted, first_identity=HELD_OUT), "unseen faces")


def recipe_rows(faces: Sequence[Face]) -> pd.DataFrame:
    """The recipes of rendered faces in the columns of a manifest: expression, aus, attr_*."""
    attributes = [draw_identity(face.identity).attributes for face in faces]
    rows = {"expression": [face.expression for face in faces], "aus": [face.aus for face in faces]}
    return pd.DataFrame(rows | {f"attr_{name}": [one[name] for one in attributes] for name in ATTRIBUTES})


def corpus_pools(training: pd.DataFrame, held_out: pd.DataFrame, corpus: Path, *, size: int, seed: int) -> tuple[Pool, Pool]:
    """Pools of two sets of corpus rows, of every expression as many as the smaller set has; both empty where they share none."""
    rng = np.random.default_rng(derive_seed("audit corpus", seed))
    counts = pd.DataFrame({"one": training["expression"].value_counts(), "other": held_out["expression"].value_counts()}).dropna()
    wanted = counts.min(axis=1).astype(int).sort_index()
    one, other = (
        pd.concat([rows[:0], *(rows[rows["expression"] == name].sample(n, random_state=rng) for name, n in wanted.items())])
        for rows in (training, held_out)
    )
    return corpus_pool(one, corpus, size=size), corpus_pool(other, corpus, size=size)


def corpus_pool(rows: pd.DataFrame, corpus: Path, *, size: int) -> Pool:
    """A pool of the given rows of a dataset folder."""

    def faces(chosen: np.ndarray) -> Faces:
        found = rows.iloc[chosen]
        return Faces(load_images(corpus, found["sample_id"].tolist(), size=size), people(found).tolist())

    return Pool(conditions(rows), faces)


def conditions(rows: pd.DataFrame) -> np.ndarray:
    """What a generator is told of faces, float32 (N, D): expression and attributes one-hot, AUs in shares of the maximum, unknown 0."""
    parts = [_one_hot(rows["expression"], EXPRESSIONS)]
    parts.append(np.nan_to_num(stack(rows, "aus") / MAX_INTENSITY) if len(rows) else np.zeros((0, 0)))
    for name, values in ATTRIBUTES.items():
        column = rows[f"attr_{name}"] if f"attr_{name}" in rows else pd.Series("", index=rows.index)
        parts.append(_one_hot(column, values))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _one_hot(column: pd.Series, values: Sequence[str]) -> np.ndarray:
    return column.to_numpy(dtype=object)[:, None] == np.array(values, dtype=object)


def choose_references(asked: np.ndarray, training: Pool, held_out: Pool, *, count: int, seed: int) -> References:
    """`count` faces of either pool, those first whose conditions are nearest to the `asked` ones float (M, D), the rest at random.

    Fewer where the pools are smaller.
    """
    wanted = min(count, len(training), len(held_out))
    return References(*(pool.faces(_nearest_rows(asked, pool, wanted, seed=seed)) for pool in (training, held_out)))


def _nearest_rows(asked: np.ndarray, pool: Pool, wanted: int, *, seed: int) -> np.ndarray:
    rng = np.random.default_rng(derive_seed("audit references", seed))
    among, looked_for = (np.hstack([known, _TINY * rng.normal(size=(len(known), _DICE))]) for known in (pool.conditions, asked))
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(among).kneighbors(looked_for, return_distance=False)[:, 0]
    order = dict.fromkeys([*nearest.tolist(), *rng.permutation(len(pool)).tolist()])
    return np.sort(np.array(list(order)[:wanted], dtype=np.int64))
