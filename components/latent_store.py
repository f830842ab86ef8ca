"""Latents of the training images, computed once, in a stream, into memory-mapped files: memory stays flat however large the corpus is.

A mirrored image is encoded as an image of its own. Mirroring its latents instead would cost nothing, but it is not what the autoencoder
says of a mirrored face: its filters are not symmetric, and Stable Diffusion's encoder pads each halving on the right and below only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from components.image_stream import image_batches
from synfer.captions import mirror_caption
from synfer.diffusion.backbone import Backbone
from synfer.manifest import stack
from synfer.pixels import to_tensor
from synfer.vocabulary import AU_COUNT, flip_aus

_PIXELS = 8 * 512 * 512
"""Pixels that are encoded at once: about 6 GB of activations in Stable Diffusion's autoencoder in float32, half of it in bfloat16."""

_MAX_BATCH = 64


@dataclass(frozen=True)
class LatentStore:
    """N images in V views, the image itself and, where the store has two, its mirror image; arrays are memory maps.

    latents float16 (N, V, C, h, w), token_ids int32 (N, V, L), aus float32 (N, V, AU_COUNT).
    """

    latents: np.ndarray
    token_ids: np.ndarray
    aus: np.ndarray

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def views(self) -> int:
        """Views of each image, 1 or 2."""
        return int(self.latents.shape[1])

    def batch(self, rows: Tensor, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents float32 (n, C, h, w), token ids (n, L) and AUs (n, AU_COUNT) of `rows` (n,) in `views` (n,); only these are read."""
        at = rows.numpy(), views.numpy()
        return torch.from_numpy(self.latents[at]).float(), torch.from_numpy(self.token_ids[at]).long(), torch.from_numpy(self.aus[at])


@torch.no_grad()
def store_latents(backbone: Backbone, folder: Path, rows: pd.DataFrame, *, mirrored: bool, store: Path) -> LatentStore:
    """Encode the images of a dataset folder's `rows` into files under `store`, in the order of the rows.

    A killed call goes on with the images that it has not yet encoded; a finished store is only opened.
    """
    views = 2 if mirrored else 1
    columns: dict[str, tuple[type, tuple[int, ...]]] = {
        "latents": (np.float16, backbone.latent_shape()),
        "token_ids": (np.int32, (backbone.tokenizer.model_max_length,)),
        "aus": (np.float32, (AU_COUNT,)),
    }
    arrays, done = _open(store, {name: (dtype, (len(rows), views, *shape)) for name, (dtype, shape) in columns.items()})
    found = LatentStore(**arrays)
    place = {sample_id: row for row, sample_id in enumerate(rows["sample_id"])}
    wanted = [sample_id for sample_id, row in place.items() if not done[row]]
    batch_size = max(1, min(_MAX_BATCH, _PIXELS // backbone.image_size**2))
    for names, pixels in image_batches(folder, wanted, size=backbone.image_size, batch_size=batch_size, title="latents"):
        at = [place[name] for name in names]
        captions, aus = rows["caption"].iloc[at].tolist(), stack(rows.iloc[at], "aus")
        _write(found, at, 0, backbone, pixels, captions, aus)
        if mirrored:
            _write(found, at, 1, backbone, pixels[:, :, ::-1], [mirror_caption(text) for text in captions], flip_aus(aus))
        for array in arrays.values():
            array.flush()
        done[at] = True  # last: what is marked is on disk
    return found


def _write(
    store: LatentStore, at: list[int], view: int, backbone: Backbone, pixels: np.ndarray, captions: list[str], aus: np.ndarray
) -> None:
    store.latents[at, view] = backbone.encode(to_tensor(pixels)).to("cpu", torch.float16).numpy()
    store.token_ids[at, view] = backbone.tokenize(captions).numpy()
    store.aus[at, view] = aus


def _open(store: Path, columns: dict[str, tuple[type, tuple[int, ...]]]) -> tuple[dict[str, np.memmap], np.memmap]:
    """One file a column, and the marks bool (N,) of the rows that are written."""
    store.mkdir(parents=True, exist_ok=True)
    marks = store / "done.npy"
    mode: Literal["r+", "w+"] = "r+" if marks.is_file() else "w+"
    arrays = {name: open_memmap(store / f"{name}.npy", mode=mode, dtype=dtype, shape=shape) for name, (dtype, shape) in columns.items()}
    return arrays, open_memmap(marks, mode=mode, dtype=bool, shape=arrays["latents"].shape[:1])
