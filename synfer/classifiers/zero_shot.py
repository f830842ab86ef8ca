"""Zero-shot classification: contrastive training on image and caption, then classes by their prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from synfer.classifiers.backbones import ClassifierError
from synfer.classifiers.image_text import ImageText, caption_tokenizer, token_numbers
from synfer.classifiers.loop import Schedule, run_loop
from synfer.classifiers.views import Views, view
from synfer.pixels import to_tensor

VIEWS = Views(crop=0.7, grey=0.0, light=0.2, blur=0.0, flip=False)
"""Milder than without captions: the caption names colours, and a mirrored face would contradict "the left brow"."""


def fit_image_text(
    images: np.ndarray,
    captions: Sequence[str],
    *,
    backbone: str,
    schedule: Schedule,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    views: Views = VIEWS,
    score: Callable[[ImageText], dict[str, float]] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> ImageText:
    """An ImageText trained on images uint8 (N, S, S, 3) and their captions (N).

    `tokenizer` defaults to one learned from the captions. `score` gets the model with averaged weights after every epoch, and the epoch
    whose first entry is best is kept: call it on val rows alone. With `checkpoint` an interrupted training goes on, see `run_loop`.
    Raises ClassifierError if images and captions do not fit together.
    """
    _check(images, captions)
    tokenizer = tokenizer or caption_tokenizer(captions)
    model = ImageText(backbone, tokenizer, image_size=images.shape[1], seed=seed)
    tokens = token_numbers(tokenizer, captions)

    def loss(rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        pixels = view(to_tensor(images[rows]).to(device), generator, views)
        return model(pixels, tokens[rows].to(device)), {}

    parts: dict[str, Any] = {"seed": seed, "device": device, "checkpoint": checkpoint, "on_epoch": on_epoch}
    run_loop(model, len(images), schedule, loss=loss, score=_scored(score), title=f"image and text {backbone}", **parts)
    return model


def _scored(score: Callable[[ImageText], dict[str, float]] | None) -> Callable[[nn.Module], dict[str, float]] | None:
    """The score as the loop wants it."""

    def of_module(module: nn.Module) -> dict[str, float]:
        assert score is not None and isinstance(module, ImageText)
        return score(module)

    return None if score is None else of_module


def _check(images: np.ndarray, captions: Sequence[str]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
        raise ClassifierError(f"images must be uint8 (N, S, S, 3), found {images.dtype} {images.shape}")
    if len(images) != len(captions) or len(images) < 2:
        raise ClassifierError(
            f"image-text training needs a caption an image and two of them at least, found {len(images)} and {len(captions)}"
        )
