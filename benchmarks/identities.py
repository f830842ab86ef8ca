"""Study of look-alikes: ``python -m benchmarks.identities`` prints a table and, as its last line, the same as JSON.

How many people lie in several splits when nobody says who is on the images? The people of a corpus are known; their names are hidden from
`components.imports`, which parts the images as it would those of a set without splits and names: by near copies alone, by look-alikes of
embedded networks, which have learned expressions, and by look-alikes of an embedding that has learned people.

That last one is a linear discriminant (Fisher) of 8 x 8 pixels, trained on rendered faces of other people. It is of no use on photographs
and stands for what a face-recognition network is there: an embedding that knows people of this kind.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from benchmarks.program import run_study
from components.imports.look_alikes import largest_group, look_alikes
from components.imports.splits import SHARES, part
from components.near_duplicates import near_duplicate_clusters, perceptual_hash
from synfer.classifiers.embedding import open_embedding
from synfer.faces.face import draw_face
from synfer.faces.renderer import render
from synfer.files import write_json
from synfer.images import load_images
from synfer.manifest import read_manifest
from synfer.seeding import derive_seed
from synfer.vocabulary import DEFAULT_EXPRESSIONS

OTHER_PEOPLE = 920_000
"""First identity of the people from whom the linear embedding learns; they are in no other study."""

_PEOPLE, _IMAGES_A_PERSON = 300, 10
_CELLS, _DIMENSIONS, _SHRINKAGE = 8, 64, 0.1
_AT_ONCE = 256

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Vectors = Callable[[np.ndarray], np.ndarray]
"""Images uint8 (N, H, W, 3) to unit vectors (N, D)."""


@dataclass(frozen=True)
class Parted:
    """People in more than one split, of how many; the share of test faces whose person is in train; faces whose nearest is their person."""

    people: int
    split: int
    leaked: float
    nearest: float | None


@app.command()
def main(
    corpus: Annotated[Path, typer.Option(help="Dataset folder with identities.")] = Path("data/faces"),
    network: Annotated[list[str] | None, typer.Option(help="Embeddings to look at, as --embedding takes them.")] = None,
    seed: Annotated[int, typer.Option(help="Which groups go to which split.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("reports/benchmarks/identities"),
) -> None:
    """Part a corpus whose people are known as if they were not."""
    frame = read_manifest(corpus)
    near = near_duplicate_clusters(_hashes(corpus, frame["sample_id"].tolist()))
    found = {"near copies alone": parted(frame, near, None, seed=seed)}
    for name in network or ["assets/fer/guide", "assets/fer/annotator_1"]:
        embedding = open_embedding(name)
        images = load_images(corpus, frame["sample_id"].tolist(), size=embedding.size)
        found[f"look-alikes by {name}"] = look_and_part(frame, near, images, embedding, seed=seed)
    images = load_images(corpus, frame["sample_id"].tolist(), size=64)
    found["look-alikes by an embedding of people"] = look_and_part(frame, near, images, embedding_of_people(), seed=seed)
    report(found, out)


def look_and_part(frame: pd.DataFrame, near: np.ndarray, images: np.ndarray, embed: Vectors, *, seed: int) -> Parted:
    """Part by the look-alikes of an embedding."""
    starts = tqdm(range(0, len(images), _AT_ONCE), desc="embedding", unit="batch", leave=False)
    vectors = np.concatenate([embed(images[start : start + _AT_ONCE]) for start in starts])
    groups = look_alikes(vectors, near, largest=largest_group(len(frame)))
    return parted(frame, groups, vectors, seed=seed)


def parted(frame: pd.DataFrame, groups: np.ndarray, vectors: np.ndarray | None, *, seed: int) -> Parted:
    """What a split of groups int (N,) does to the people of a manifest; `vectors` say whose face is nearest."""
    splits = part(frame["expression"].to_numpy(), groups, SHARES, seed=seed)
    people = frame["identity"].to_numpy()
    test = splits == "test"
    leaked = float(np.isin(people[test], people[splits == "train"]).mean())
    several = int((pd.Series(splits).groupby(people).nunique() > 1).sum())
    nearest = None if vectors is None else NearestNeighbors(n_neighbors=1, algorithm="brute").fit(vectors).kneighbors()[1][:, 0]
    return Parted(len(set(people)), several, leaked, None if nearest is None else float((people[nearest] == people).mean()))


def embedding_of_people() -> Vectors:
    """A linear discriminant of the pixels of 8 x 8 cells, trained on rendered faces of people who are in no corpus."""
    faces = [
        draw_face(derive_seed("identities", number), identity=OTHER_PEOPLE + number // _IMAGES_A_PERSON, expression=expression)
        for number in range(_PEOPLE * _IMAGES_A_PERSON)
        for expression in [DEFAULT_EXPRESSIONS[number % len(DEFAULT_EXPRESSIONS)]]
    ]
    images = np.concatenate([render(faces[start : start + _AT_ONCE], size=64) for start in range(0, len(faces), _AT_ONCE)])
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=_SHRINKAGE).fit(_cells(images), [face.identity for face in faces])

    def embed(pixels: np.ndarray) -> np.ndarray:
        vectors = model.transform(_cells(pixels))[:, :_DIMENSIONS]
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return embed


def _cells(images: np.ndarray) -> np.ndarray:
    """Mean colours of 8 x 8 cells, float (N, 192)."""
    count, side = images.shape[:2]
    return images.reshape(count, _CELLS, side // _CELLS, _CELLS, side // _CELLS, 3).mean(axis=(2, 4)).reshape(count, -1)


def _hashes(corpus: Path, sample_ids: list[str]) -> list[tuple[int, ...]]:
    return [perceptual_hash(pixels) for pixels in tqdm(load_images(corpus, sample_ids, size=64), desc="hashes", leave=False)]


def report(found: dict[str, Parted], out: Path) -> None:
    """Write `identities.json` to `out`; print the table and the JSON line."""
    table = Table(title="People who are parted although they are one", title_justify="left", box=None)
    for column in ("groups of", "people in several splits", "test faces with their person in train", "nearest face is theirs"):
        table.add_column(column, justify="left" if column == "groups of" else "right")
    values: dict[str, dict[str, float | None]] = {}
    for name, one in found.items():
        nearest = "" if one.nearest is None else f"{one.nearest:.2f}"
        table.add_row(name, f"{one.split} of {one.people}", f"{one.leaked:.2f}", nearest)
        nearest_share = None if one.nearest is None else round(one.nearest, 4)
        values[name] = {"people": one.people, "split": one.split, "leaked": round(one.leaked, 4), "nearest": nearest_share}
    write_json(out / "identities.json", values)
    Console(width=120).print(table)
    print(json.dumps(values))


if __name__ == "__main__":
    run_study(app, "benchmarks.identities")
