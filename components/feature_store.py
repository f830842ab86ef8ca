"""Diffusion features computed once, a file a shard of images, and read where they lie: memory stays flat however many images there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from components.device import torch_device
from components.executors.shards import Actors, Advance, Portable, Worker, run_shards
from components.image_stream import ImageShard, image_shards
from synfer.annotation.feranno import pool_map
from synfer.annotation.feranno_fit import FeatureSet
from synfer.diffusion.backbone import Backbone, load_backbone
from synfer.diffusion.features import unet_features
from synfer.files import whole_file
from synfer.pixels import to_tensor
from synfer.seeding import derive_seed

FeatureReader = Callable[[np.ndarray, Sequence[str]], tuple[list[Tensor], Tensor]]
"""Pixels uint8 (N, H, W, 3) and their sample ids -> U-Net maps [(N, C_i, h_i, w_i)] and attention maps (N, words, h, w)."""

_ID = "sample_id"


def feature_reader(backbone: Backbone, *, timestep: int, seed: int) -> FeatureReader:
    """Read a backbone's features at a timestep; each sample has noise of its own, drawn from `seed` and its id."""

    def read(pixels: np.ndarray, sample_ids: Sequence[str]) -> tuple[list[Tensor], Tensor]:
        seeds = [derive_seed(seed, "feranno", sample_id) for sample_id in sample_ids]
        features = unet_features(backbone, to_tensor(pixels), timestep=timestep, seeds=seeds)
        return [pool_map(maps) for maps in features.maps], pool_map(features.attention)

    return read


@dataclass(frozen=True)
class FeatureMaker(Portable):
    """Makes the features of any shard of images: folder of the backbone, noise level, root of the noise, images a batch, device.

    The backbone is loaded when it is first needed.
    """

    backbone: Path
    timestep: int
    seed: int
    batch_size: int
    device: str

    @cached_property
    def loaded(self) -> Backbone:
        """The backbone; raises as `load_backbone` does."""
        return load_backbone(self.backbone, device=torch_device(self.device))

    def __call__(self, shard: ImageShard, advance: Advance) -> None:
        """Write the features of a shard's images."""
        read = feature_reader(self.loaded, timestep=self.timestep, seed=self.seed)
        write_features(read, shard, advance, size=self.loaded.image_size, batch_size=self.batch_size)


@torch.inference_mode()
def write_features(read: FeatureReader, shard: ImageShard, advance: Advance, *, size: int, batch_size: int) -> None:
    """Write what `read` finds in a shard's images as float16: a row an image, with its id, the maps and at last the attention."""
    ids = f"U{max(map(len, shard.sample_ids))}"
    with whole_file(shard.path) as temporary:
        file, start = None, 0
        for batch_ids, pixels in shard.batches(size=size, batch_size=batch_size):
            maps, attention = read(pixels, batch_ids)
            arrays = [features.to("cpu", torch.float16).numpy() for features in (*maps, attention)]
            if file is None:
                kinds = [(_ID, ids), *((str(n), np.float16, array.shape[1:]) for n, array in enumerate(arrays))]
                file = open_memmap(temporary, mode="w+", dtype=np.dtype(kinds), shape=(len(shard),))
            rows = slice(start, start := start + len(batch_ids))
            file[_ID][rows] = batch_ids
            for n, array in enumerate(arrays):
                file[str(n)][rows] = array
            advance(len(batch_ids))


@dataclass(frozen=True)
class ShardedRows:
    """An array (N, ...) whose row i is row `rows[i]` of block `blocks[i]`; the blocks lie in files, which are read where they are asked."""

    parts: Sequence[np.ndarray]
    blocks: np.ndarray
    rows: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """As that of an array."""
        return (len(self), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """The rows of an index array, in its order."""
        blocks, rows = self.blocks[index], self.rows[index]
        found = np.empty((len(rows), *self.shape[1:]), self.parts[0].dtype)
        for block in np.unique(blocks):
            here = blocks == block
            found[here] = self.parts[block][rows[here]]
        return found


def store_features(
    work: Worker[ImageShard], folder: Path, sample_ids: Sequence[str], labels: np.ndarray, *, store: Path, actors: Actors | None = None
) -> FeatureSet:
    """The features of a dataset folder's samples, which lie as files under `store`; rows follow `sample_ids`.

    A file that is there already is not made again, so that a killed call goes on; the caller removes `store`.
    """
    shards = image_shards(folder, sample_ids, store, suffix=".npy")
    run_shards(work, shards, actors, title=f"features of {store.name}", unit="image")
    parts = [np.load(shard.path, mmap_mode="r") for shard in shards]
    place = {sample_id: (block, row) for block, part in enumerate(parts) for row, sample_id in enumerate(part[_ID].tolist())}
    blocks, rows = np.array([place[sample_id] for sample_id in sample_ids]).T
    *maps, attention = (ShardedRows([part[name] for part in parts], blocks, rows) for name in parts[0].dtype.names[1:])
    return FeatureSet(maps, attention, labels)
