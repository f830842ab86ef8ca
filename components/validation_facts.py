"""What the gate looks at: flat tables, one row an image, a class, or a column, from the manifest and from the image bytes themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from components.drift import look
from components.near_duplicates import near_duplicate_clusters, perceptual_hash
from synfer.images import ImageError, decode, is_marked_generated, iter_encoded
from synfer.manifest import FILE_NAME, OPTIONAL, REQUIRED, ManifestError
from synfer.vocabulary import ATTRIBUTES, COMPOUNDS, exclusion_conflicts

DECIDED = ("label", "posterior", "entropy", "agreement", "action", "reason")
"""Columns that rectification adds and the gate reads."""


def schema_facts(folder: Path) -> pd.DataFrame:
    """One row a column of a rectified manifest: `column`, `type` ("" where it is missing), `wanted`, and whether that is `right`, 0 or 1.

    Columns that need not be there have a row where they are. Raises ManifestError if the file cannot be read.
    """
    path = folder / FILE_NAME
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    wanted = REQUIRED | {name: kind for name, kind in OPTIONAL.items() if name in DECIDED or name in schema.names}
    rows = []
    for name, kind in wanted.items():
        found = schema.field(name).type if name in schema.names else None
        rows.append((name, "" if found is None else str(found), str(kind), int(found == kind)))
    return pd.DataFrame(rows, columns=["column", "type", "wanted", "right"])


def image_facts(frame: pd.DataFrame, images: Path) -> pd.DataFrame:
    """One row an image of a rectified manifest, with what the expectations read; `images` is the dataset folder of its pixels.

    Columns beside the manifest's own: asked (expression or compound), confirmed, kept, au_min, au_max, au_conflicts, posterior_size and
    posterior_sum, person_known (attributes in the vocabulary), identity_splits (splits that the person is in); and of the image: found,
    decodable, as_hashed, marked, brightness and contrast (`look`), duplicate (an earlier image is nearly the same), leaked (one of another
    split is). What is unknown of an image is NaN.
    """
    aus = [np.asarray(vector, dtype=np.float64) for vector in frame["aus"]]
    compound = frame["compound"] if "compound" in frame.columns else pd.Series("", index=frame.index)
    posteriors = [np.asarray(posterior, dtype=np.float64) for posterior in frame["posterior"]]
    shown = ["sample_id", "split", "identity", "expression", "caption", "seed", "label", "action", "entropy", "agreement", "reason"]
    facts = frame[shown].assign(
        action=frame["action"].fillna(""),
        asked=frame["expression"].where(compound == "", compound),
        confirmed=[
            int(label in COMPOUNDS.get(joined, (asked,))) for label, asked, joined in zip(frame["label"], frame["expression"], compound)
        ],
        kept=(frame["action"] != "reject").astype(int),
        au_min=[np.min(vector, initial=np.inf, where=np.isfinite(vector)) for vector in aus],
        au_max=[np.max(vector, initial=-np.inf, where=np.isfinite(vector)) for vector in aus],
        au_conflicts=[len(exclusion_conflicts(vector)) for vector in aus],
        posterior_size=[len(posterior) for posterior in posteriors],
        posterior_sum=[posterior.sum() for posterior in posteriors],
        person_known=_person_known(frame),
        identity_splits=_identity_splits(frame),
    )
    columns = ["sample_id", "decodable", "as_hashed", "marked", "brightness", "contrast", "hash"]
    pixels = pd.DataFrame(_pixel_facts(frame, images), columns=columns).drop_duplicates("sample_id")
    facts = facts.merge(pixels, on="sample_id", how="left").assign(found=lambda rows: rows["decodable"].notna().astype(int))
    return facts.assign(**_near_copies(facts)).drop(columns="hash")


def _person_known(frame: pd.DataFrame) -> pd.Series:
    """Whether every attribute that the manifest has is one of the vocabulary's, or unknown (""), 0 or 1."""
    known = pd.Series(True, index=frame.index)
    for name, values in ATTRIBUTES.items():
        if f"attr_{name}" in frame.columns:
            known &= frame[f"attr_{name}"].isin(["", *values])
    return known.astype(int)


def _identity_splits(frame: pd.DataFrame) -> pd.Series:
    """In how many splits the person of each image is; nobody knows of a person without a name (1)."""
    return frame.groupby("identity")["split"].transform("nunique").where(frame["identity"] != "", 1)


def _near_copies(facts: pd.DataFrame) -> dict[str, np.ndarray]:
    """`duplicate` and `leaked` (N,), 0 or 1, by the perceptual hashes; an image without one is neither."""
    duplicate, leaked = np.zeros((2, len(facts)), dtype=int)
    known = np.flatnonzero(facts["hash"].notna())
    clusters = pd.Series(near_duplicate_clusters(facts["hash"].iloc[known].tolist()))
    duplicate[known] = clusters.duplicated()
    leaked[known] = facts["split"].iloc[known].groupby(clusters.to_numpy()).transform("nunique") > 1
    return {"duplicate": duplicate, "leaked": leaked}


def asked_classes(frame: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """The classes that the plan of these rows asks for, parts of compounds among them; all `classes` without a plan."""
    if "plan_cell" not in frame.columns or not frame["plan_cell"].any():
        return list(classes)
    compounds = frame["compound"].unique() if "compound" in frame.columns else ()
    asked = {*frame["expression"], *(part for name in compounds for part in COMPOUNDS.get(name, ()))}
    return [name for name in classes if name in asked]


def class_facts(frame: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One row a class: `label`, `images` that are not rejected, and `ratio` of the largest to it (an empty class counts as 1)."""
    counts = frame.loc[frame["action"] != "reject", "label"].value_counts().reindex(list(classes), fill_value=0)
    return pd.DataFrame({"label": list(classes), "images": counts.to_numpy(), "ratio": (counts.max() / counts.clip(lower=1)).to_numpy()})


PixelFacts = tuple[str, int, int, int | None, float | None, float | None, tuple[int, ...] | None]


def _pixel_facts(frame: pd.DataFrame, images: Path) -> Iterator[PixelFacts]:
    expected = dict(zip(frame["sample_id"], frame["sha256"], strict=True))
    for sample_id, data in tqdm(iter_encoded(images), total=len(frame), desc="validation", unit="image", leave=False):
        if sample_id not in expected:
            continue
        as_hashed = int(hashlib.sha256(data).hexdigest() == expected[sample_id])
        try:
            pixels = decode(data, where=sample_id)
        except ImageError:  # the expectation `decodable` reports it, with all others
            yield sample_id, 0, as_hashed, None, None, None, None
            continue
        yield sample_id, 1, as_hashed, int(is_marked_generated(data)), *look(pixels), perceptual_hash(pixels)
