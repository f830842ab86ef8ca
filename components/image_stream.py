"""The images of a dataset folder as a stream of batches: memory stays flat however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from synfer.images import iter_images, resize


def image_batches(
    folder: Path, sample_ids: Sequence[str], *, size: int, batch_size: int, title: str
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Stream (sample ids, pixels uint8 (n, size, size, 3)) of a dataset folder in shard order, with a progress bar."""
    stream = iter_images(folder, sample_ids)
    with tqdm(total=len(sample_ids), desc=title, unit="image", leave=False) as bar:
        while batch := list(islice(stream, batch_size)):
            yield [sample_id for sample_id, _ in batch], np.stack([resize(image, size) for _, image in batch])
            bar.update(len(batch))
