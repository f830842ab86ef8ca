"""What the gate looks at: a flat table, one row an image, computed from the manifest and from the image bytes themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from components.near_duplicates import near_duplicates, perceptual_hash
from synfer.images import ImageError, decode, is_marked_generated, iter_encoded
from synfer.manifest import stack
from synfer.vocabulary import COMPOUNDS, exclusion_conflicts


def image_facts(frame: pd.DataFrame, images: Path) -> pd.DataFrame:
    """One row an image of a rectified manifest, with what the expectations read; `images` is the dataset folder of its pixels.

    Columns beside the manifest's own: confirmed, kept, au_min, au_max, au_conflicts, posterior_sum, and of the image: found, decodable,
    as_hashed, marked, contrast (standard deviation of its grey levels 0..255), duplicate (see `near_duplicates`).
    """
    aus, conflicts = stack(frame, "aus"), [len(exclusion_conflicts(np.asarray(vector))) for vector in frame["aus"]]
    compound = frame["compound"] if "compound" in frame.columns else pd.Series("", index=frame.index)
    facts = frame[["sample_id", "split", "expression", "caption", "seed", "label", "action", "entropy", "agreement", "reason"]].assign(
        asked=frame["expression"].where(compound == "", compound),
        confirmed=[
            int(label in COMPOUNDS.get(joined, (asked,))) for label, asked, joined in zip(frame["label"], frame["expression"], compound)
        ],
        kept=(frame["action"] != "reject").astype(int),
        au_min=np.nanmin(aus, axis=1),
        au_max=np.nanmax(aus, axis=1),
        au_conflicts=conflicts,
        posterior_sum=stack(frame, "posterior").sum(axis=1),
    )
    pixels = pd.DataFrame(_pixel_facts(frame, images), columns=["sample_id", "decodable", "as_hashed", "marked", "contrast", "hash"])
    facts = facts.merge(pixels, on="sample_id", how="left").assign(found=lambda rows: rows["decodable"].notna().astype(int))
    return facts.assign(duplicate=near_duplicates(facts["hash"]).astype(int)).drop(columns="hash")


def class_facts(frame: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One row a class: `label`, `images` that are not rejected, and `ratio` of the largest to it (an empty class counts as 1)."""
    counts = frame.loc[frame["action"] != "reject", "label"].value_counts().reindex(list(classes), fill_value=0)
    return pd.DataFrame({"label": list(classes), "images": counts.to_numpy(), "ratio": (counts.max() / counts.clip(lower=1)).to_numpy()})


def _pixel_facts(frame: pd.DataFrame, images: Path) -> Iterator[tuple[str, int, int, int | None, float | None, tuple[int, ...] | None]]:
    expected = dict(zip(frame["sample_id"], frame["sha256"], strict=True))
    for sample_id, data in tqdm(iter_encoded(images), total=len(frame), desc="validation", unit="image", leave=False):
        if sample_id not in expected:
            continue
        as_hashed = int(hashlib.sha256(data).hexdigest() == expected[sample_id])
        try:
            pixels = decode(data, where=sample_id)
        except ImageError:  # the expectation `decodable` reports it, with all others
            yield sample_id, 0, as_hashed, None, None, None
            continue
        contrast = float(pixels.mean(axis=2).std())
        yield sample_id, 1, as_hashed, int(is_marked_generated(data)), contrast, perceptual_hash(pixels)
