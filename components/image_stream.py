"""The images of a dataset folder as a stream of batches, or shard by shard: memory stays flat however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from synfer.images import ImageError, iter_images, iter_sample_ids, resize, shard_paths


def image_batches(
    folder: Path, sample_ids: Sequence[str], *, size: int, batch_size: int, title: str
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Stream (sample ids, pixels uint8 (n, size, size, 3)) of a dataset folder in shard order, with a progress bar."""
    with tqdm(total=len(sample_ids), desc=title, unit="image", leave=False) as bar:
        for batch_ids, pixels in _batches(iter_images(folder, sample_ids), size=size, batch_size=batch_size):
            yield batch_ids, pixels
            bar.update(len(batch_ids))


def _batches(stream: Iterator[tuple[str, np.ndarray]], *, size: int, batch_size: int) -> Iterator[tuple[list[str], np.ndarray]]:
    while batch := list(islice(stream, batch_size)):
        yield [sample_id for sample_id, _ in batch], np.stack([resize(image, size) for _, image in batch])


@dataclass(frozen=True)
class ImageShard:
    """The wanted images of one shard file of a dataset folder, and the file at `path` that will hold what is seen in them."""

    images: Path
    sample_ids: frozenset[str]
    path: Path

    def __len__(self) -> int:
        return len(self.sample_ids)

    def batches(self, *, size: int, batch_size: int) -> Iterator[tuple[list[str], np.ndarray]]:
        """Sample ids and pixels uint8 (n, size, size, 3), in the order of the file; raises ImageError naming an unreadable image."""
        return _batches(iter_images(self.images, self.sample_ids), size=size, batch_size=batch_size)


def image_shards(folder: Path, sample_ids: Sequence[str], results: Path, *, suffix: str = ".parquet") -> list[ImageShard]:
    """The shards of a dataset folder that hold any of the samples; their results will lie in `results` under their own names.

    Raises ImageError naming the first sample that the folder lacks.
    """
    wanted, shards = set(sample_ids), list[ImageShard]()
    for file in shard_paths(folder):
        if inside := wanted.intersection(iter_sample_ids(file)):
            shards.append(ImageShard(file, frozenset(inside), (results / file.name).with_suffix(suffix)))
            wanted -= inside
    if wanted:
        raise ImageError(f"{folder} has no image for sample {min(wanted)} (and {len(wanted) - 1} more)")
    return shards
