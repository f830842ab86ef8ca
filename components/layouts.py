"""Layout images of generated faces: training faces of the corpus, from whose inversion the denoising starts (`synthesis.layout`).

This is the way on which somebody's face could leak into a dataset. So it is off unless asked for, takes training faces only and none of
the people whom a judge knows, and every generated face names the image that it started from (`layout_from` in the manifest).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from components.fer_models import unjudged
from synfer.errors import SynferError
from synfer.files import whole_file
from synfer.images import ImageError, decode, iter_encoded, resize
from synfer.manifest import read_manifest
from synfer.seeding import derive_seed

Image = TypeVar("Image")

_SCHEMA = pa.schema([("sample_id", pa.string()), ("image", pa.binary())])
_WRITTEN_AT_ONCE = 256


class LayoutError(SynferError):
    """No image to take a layout from; the message says why."""


@dataclass(frozen=True, eq=False)
class Layouts:
    """Encoded layout images in a file that is mapped into memory, so that a corpus of any size fits; `row` is the row of a sample id."""

    images: pa.ChunkedArray
    row: Mapping[str, int]

    def pixels(self, sample_ids: Sequence[str], *, size: int) -> np.ndarray:
        """Images uint8 (N, size, size, 3) in the order asked."""
        encoded = ((sample_id, self.images[self.row[sample_id]].as_py()) for sample_id in sample_ids)
        return np.stack([resize(decode(data, where=f"layout {sample_id}"), size) for sample_id, data in encoded])


def layout_pool(development: Path, fer_models: Path) -> list[str]:
    """Sample ids of the training faces whose people no judge has seen, sorted; raises LayoutError if there is none."""
    rows = read_manifest(development).query("split == 'train'")
    pool = sorted(unjudged(rows, fer_models)["sample_id"])
    if not pool:
        raise LayoutError(f"{development} has no training face of a person whom no judge has seen ({len(rows)} training faces in all)")
    return pool


def choose_layouts(seeds: Iterable[int], pool: Sequence[Image]) -> list[Image]:
    """The layout image of every sample, by its own seed; `pool` holds the images or their names."""
    return [pool[derive_seed("layout", int(seed)) % len(pool)] for seed in seeds]


def gather_layouts(development: Path, sample_ids: Iterable[str], path: Path) -> Layouts:
    """The wanted images, copied to `path` in one pass over the corpus unless an interrupted run has left them there.

    Raises ImageError naming the first that is missing.
    """
    if not path.is_file():
        _copy(development, set(sample_ids), path)
    return open_layouts(path)


def open_layouts(path: Path) -> Layouts:
    """The images that `gather_layouts` left at `path`, mapped into memory."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return Layouts(table["image"], {sample_id: row for row, sample_id in enumerate(table["sample_id"].to_pylist())})


def _copy(development: Path, wanted: set[str], path: Path) -> None:
    with whole_file(path) as temporary, pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        batch: list[tuple[str, bytes]] = []
        for sample_id, data in iter_encoded(development) if wanted else ():
            if sample_id in wanted:
                wanted.discard(sample_id)
                batch.append((sample_id, data))
            if len(batch) == _WRITTEN_AT_ONCE:
                writer.write_batch(_record_batch(batch))
                batch = []
        writer.write_batch(_record_batch(batch))
        if wanted:
            raise ImageError(f"{development} has no image for sample {min(wanted)} (and {len(wanted) - 1} more)")


def _record_batch(batch: Sequence[tuple[str, bytes]]) -> pa.RecordBatch:
    return pa.record_batch([[item[column] for item in batch] for column in (0, 1)], schema=_SCHEMA)
