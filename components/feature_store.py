"""Diffusion features computed once, in a stream, into memory-mapped files: memory stays flat however many images there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from components.image_stream import image_batches
from synfer.annotation.feranno import pool_map
from synfer.annotation.feranno_fit import FeatureSet
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.features import unet_features
from synfer.pixels import to_tensor
from synfer.seeding import derive_seed

FeatureReader = Callable[[np.ndarray, Sequence[str]], tuple[list[Tensor], Tensor]]
"""Pixels uint8 (N, H, W, 3) and their sample ids -> U-Net maps [(N, C_i, h_i, w_i)] and attention maps (N, words, h, w)."""


def feature_reader(backbone: Backbone, *, timestep: int, seed: int) -> FeatureReader:
    """Read a backbone's features at a timestep; each sample has noise of its own, drawn from `seed` and its id."""

    def read(pixels: np.ndarray, sample_ids: Sequence[str]) -> tuple[list[Tensor], Tensor]:
        seeds = [derive_seed(seed, "feranno", sample_id) for sample_id in sample_ids]
        features = unet_features(backbone, to_tensor(pixels), timestep=timestep, seeds=seeds)
        return [pool_map(maps) for maps in features.maps], pool_map(features.attention)

    return read


@torch.inference_mode()
def store_features(
    read: FeatureReader, folder: Path, sample_ids: Sequence[str], labels: np.ndarray, *, size: int, batch_size: int, store: Path
) -> FeatureSet:
    """Compute the features of a dataset folder's samples into float16 files under `store`; rows follow `sample_ids`."""
    position = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    store.mkdir(parents=True, exist_ok=True)
    files: list[np.ndarray] = []
    for batch_ids, pixels in image_batches(folder, sample_ids, size=size, batch_size=batch_size, title=f"features of {store.name}"):
        maps, attention = read(pixels, batch_ids)
        arrays = [features.to("cpu", torch.float16).numpy() for features in (*maps, attention)]
        if not files:
            shapes = [(len(sample_ids), *array.shape[1:]) for array in arrays]
            files = [open_memmap(store / f"{n}.npy", mode="w+", dtype=np.float16, shape=shape) for n, shape in enumerate(shapes)]
        rows = [position[sample_id] for sample_id in batch_ids]
        for file, array in zip(files, arrays, strict=True):
            file[rows] = array
    return FeatureSet(files[:-1], files[-1], labels)
