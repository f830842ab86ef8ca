"""Layout images of generated faces: training faces of the corpus, from whose inversion the denoising starts (`synthesis.layout`).

This is the way on which somebody's face could leak into a dataset. So it is off unless asked for, takes training faces only and none of
the people whom a judge knows, and every generated face names the image that it started from (`layout_from` in the manifest).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from components.fer_models import people, read_roles
from synfer.errors import SynferError
from synfer.images import ImageError, decode, iter_encoded, resize
from synfer.manifest import read_manifest
from synfer.metrics.roles import AU_JUDGE, JUDGE
from synfer.seeding import derive_seed

Image = TypeVar("Image")


class LayoutError(SynferError):
    """No image to take a layout from; the message says why."""


def layout_pool(development: Path, fer_models: Path) -> list[str]:
    """Sample ids of the training faces whose people no judge has seen, sorted; raises LayoutError if there is none."""
    rows = read_manifest(development).query("split == 'train'")
    roles = read_roles(fer_models)
    judged = frozenset().union(*(roles[name].identities for name in (JUDGE, AU_JUDGE) if name in roles))
    pool = sorted(rows.loc[~people(rows).isin(judged), "sample_id"])
    if not pool:
        raise LayoutError(f"{development} has no training face of a person whom no judge has seen ({len(rows)} training faces in all)")
    return pool


def choose_layouts(seeds: Iterable[int], pool: Sequence[Image]) -> list[Image]:
    """The layout image of every sample, by its own seed; `pool` holds the images or their names."""
    return [pool[derive_seed("layout", int(seed)) % len(pool)] for seed in seeds]


def encoded_layouts(development: Path, sample_ids: Iterable[str]) -> dict[str, bytes]:
    """Encoded images by sample id, read in one pass; raises ImageError naming the first that is missing."""
    wanted = set(sample_ids)
    found = {sample_id: data for sample_id, data in iter_encoded(development) if sample_id in wanted} if wanted else {}
    if missing := wanted - set(found):
        raise ImageError(f"{development} has no image for sample {min(missing)} (and {len(missing) - 1} more)")
    return found


def layout_pixels(encoded: Mapping[str, bytes], sample_ids: Sequence[str], *, size: int) -> np.ndarray:
    """Images uint8 (N, size, size, 3) in the order asked."""
    return np.stack([resize(decode(encoded[sample_id], where=f"layout {sample_id}"), size) for sample_id in sample_ids])
