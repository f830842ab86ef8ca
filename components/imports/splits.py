"""Splits of an imported data set: its own where it has them, else by person, else by clusters of near-duplicates or of look-alikes.

Nobody, and no near copy, comes to lie in two of the splits that are made here; what a set's own splits mix is told, not changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synfer.datasets.entries import DatasetError
from synfer.manifest import SPLITS
from synfer.seeding import derive_seed
from synfer.vocabulary import unknown

if TYPE_CHECKING:  # it needs torch, most imports do not
    from synfer.classifiers.embedding import Embedding

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}


def parse_shares(text: str) -> dict[str, float]:
    """Read "0.7,0.15,0.15" into the share of train, val and test; raises DatasetError unless they are three and make 1."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != len(SPLITS) or min(values, default=-1.0) < 0 or abs(sum(values) - 1) > 1e-6 or not values[0]:
        raise DatasetError(f"cannot read {text!r} as the shares of train, val and test, for example 0.7,0.15,0.15")
    return dict(zip(SPLITS, values, strict=True))


def parse_splits(text: str) -> tuple[str, ...]:
    """Read "val,test"; raises DatasetError on another name than val and test."""
    names = tuple(filter(None, (part.strip() for part in text.split(","))))
    for name in names:
        if name not in SPLITS[1:]:
            raise DatasetError(unknown("split to take from train", name, SPLITS[1:]))
    return names


@dataclass(frozen=True, eq=False)
class Together:
    """What stays together: a group of every row, str (N,); `nameless` of the rows are parted here although nobody says who they show.

    Where an embedding was used, its name, and how many groups of look-alikes it made of them, the largest of how many images.
    """

    groups: np.ndarray
    nameless: int
    embedding: str = ""
    look_alikes: int = 0
    largest: int = 0


def kept_together(frame: pd.DataFrame, near: np.ndarray, folder: Path, *, carve: Sequence[str], embedding: Embedding | None) -> Together:
    """A person's faces; of people of unknown name near-duplicates (clusters `near`, int (N,)) and, with an embedding, look-alikes.

    `folder` holds the images. Faces that keep the set's own split are not looked at.
    """
    groups = groups_of(frame, near)
    nameless = np.flatnonzero((frame["identity"] == "").to_numpy() & _parted(frame["split"].to_numpy(dtype=object), carve))
    if embedding is None or not len(nameless):
        return Together(groups, len(nameless))
    from components.imports.look_alikes import embed, largest_group, look_alikes

    vectors = embed(folder, frame["sample_id"].iloc[nameless].tolist(), embedding)
    found = look_alikes(vectors, near[nameless], largest=largest_group(len(nameless)))
    groups[nameless] = [f"look-alikes {number}" for number in found]
    sizes = np.unique(found, return_counts=True)[1]
    return Together(groups, len(nameless), embedding.name, len(sizes), int(sizes.max()))


def groups_of(frame: pd.DataFrame, near: np.ndarray) -> np.ndarray:
    """A person, or of a face of nobody known its near-duplicates, as text (N,)."""
    clusters = "cluster " + pd.Series(near, index=frame.index).astype(str)
    return np.where(frame["identity"] != "", "person " + frame["identity"], clusters).astype(object)


def _parted(given: np.ndarray, carve: Sequence[str]) -> np.ndarray:
    """Rows, bool (N,), whose split is made here; `given` is the set's own, "" for none."""
    if not (given != "").any():
        return np.ones(len(given), dtype=bool)
    return (given == "train") & (not set(carve) <= set(given))


def split_rows(frame: pd.DataFrame, groups: np.ndarray, *, shares: Mapping[str, float], carve: Sequence[str], seed: int) -> np.ndarray:
    """The split of every row, str (N,): `frame.split` where the set has splits, else parts of `shares`.

    A split of `carve` that the set lacks is taken from its train, in the proportion of the shares. Raises DatasetError if a person of the
    set is in two of its own splits, or if a few images have none.
    """
    given = frame["split"].to_numpy(dtype=object)
    if not (given != "").any():
        return part(frame["expression"].to_numpy(), groups, shares, seed=seed)
    _check_own(frame)
    splits, rows = given.copy(), np.flatnonzero(given == "train")
    parts = {name: shares[name] for name in ("train", *carve) if name == "train" or name not in given}
    whole = sum(parts.values())
    local = {name: share / whole for name, share in parts.items()}
    splits[rows] = part(frame["expression"].to_numpy()[rows], groups[rows], local, seed=seed)
    return splits


def _check_own(frame: pd.DataFrame) -> None:
    lost = frame.loc[frame["split"] == "", "source_name"]
    if len(lost):
        raise DatasetError(f"{len(lost)} images have no split while others have one, such as {lost.iloc[0]}; part all anew with --resplit")
    mixed = frame[frame["identity"] != ""].groupby("identity")["split"].nunique()
    if (mixed > 1).any():
        person, more = mixed.index[mixed > 1][0], int((mixed > 1).sum()) - 1
        raise DatasetError(f"{person} is in two of the set's own splits (and {more} more people); part it anew with --resplit")


def part(labels: np.ndarray, groups: np.ndarray, shares: Mapping[str, float], *, seed: int) -> np.ndarray:
    """A split for every row, str (N,): groups stay whole, and every split comes near its share of every class.

    The largest groups go first, each to the split that lacks most of its classes; groups of one size go in random order.
    """
    wanted = {name: share for name, share in shares.items() if share}
    classes, label = np.unique(labels.astype(str), return_inverse=True)
    _, group = np.unique(groups.astype(str), return_inverse=True)
    counts = np.zeros((group.max(initial=-1) + 1, len(classes)))
    np.add.at(counts, (group, label), 1)
    target = np.outer(list(wanted.values()), counts.sum(axis=0))
    lacking, chosen = target.copy(), np.zeros(len(counts), dtype=np.int64)
    order = np.random.default_rng(derive_seed("import splits", seed)).permutation(len(counts))
    for number in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        need = (lacking / np.maximum(target, 1e-9)) @ counts[number]
        chosen[number] = int(np.argmax(need))
        lacking[chosen[number]] -= counts[number]
    return np.array(list(wanted), dtype=object)[chosen[group]]
