"""Captions of real faces: from the grammar, or from any image-text-to-text model that `transformers` can load."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from PIL import Image

from synfer.captions import row_captions, with_expression
from synfer.errors import SynferError

PREFIX = "a photo of"
"""How a model that continues a text is made to begin: as the grammar does, so that the text encoder meets one style."""

QUESTION = "Describe this person's age, sex, skin, hair and facial expression in one short sentence without guessing who it is."
"""What a model that answers questions is asked."""


class CaptionerError(SynferError):
    """A captioner that cannot be loaded; the message names it and what would help."""


class Captioner(Protocol):
    """Writes captions; `needs_images` says whether it looks at the pixels, else `images` may be empty.

    An optional `name` tells it from others of its class: with the same class and name, work that was interrupted goes on.
    """

    @property
    def needs_images(self) -> bool: ...

    def __call__(self, images: Sequence[np.ndarray], rows: pd.DataFrame) -> list[str]:
        """One caption a manifest row; `images` are RGB uint8 (H, W, 3), of any size, in the order of `rows`."""


@dataclass(frozen=True)
class GrammarCaptioner:
    """Captions from what the manifest knows: expression, attributes and AUs. It never looks at the image."""

    seed: int = 0
    needs_images: bool = False

    @property
    def name(self) -> str:
        return f"seed {self.seed}"

    def __call__(self, images: Sequence[np.ndarray], rows: pd.DataFrame) -> list[str]:
        return row_captions(rows, seed=self.seed)


class ModelCaptioner:
    """Captions of a vision-language model (BLIP, GIT, Florence-2, LLaVA, Qwen-VL, ...), greedy and so the same at every call.

    The expression that a row is labelled with is added in the grammar's words where the model has not said it: it is the word that a
    generator trained on these captions will be asked for.
    """

    needs_images = True

    def __init__(
        self,
        model: str,
        *,
        prompt: str | None = None,
        device: str | torch.device = "cpu",
        max_new_tokens: int = 40,
        batch_size: int = 8,
    ) -> None:
        """Load a folder or a name on the hub; `prompt` replaces PREFIX or QUESTION. Raises CaptionerError where that fails."""
        self._pipeline = _load_pipeline(model, device)
        self.name = f"{model}, {prompt!r}, {max_new_tokens} tokens"
        self._chats = getattr(self._pipeline.processor, "chat_template", None) is not None
        self._prompt = prompt if prompt is not None else QUESTION if self._chats else PREFIX
        self._generate = {"do_sample": False, "max_new_tokens": max_new_tokens}
        self._batch_size = batch_size
        if self._chats:
            tokenizer = self._pipeline.processor.tokenizer
            tokenizer.padding_side = "left"  # an answer follows its question, not the padding
            tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def __call__(self, images: Sequence[np.ndarray], rows: pd.DataFrame) -> list[str]:
        pictures = [Image.fromarray(image) for image in images]
        write = self._answers if self._chats else self._continuations
        starts = range(0, len(pictures), self._batch_size)
        texts = [text for start in starts for text in write(pictures[start : start + self._batch_size])]
        return [with_expression(" ".join(text.split()), label) for text, label in zip(texts, rows["expression"], strict=True)]

    def _continuations(self, pictures: list[Image.Image]) -> list[str]:
        """The prompt and how it goes on, a text a picture."""
        found = self._pipeline(images=pictures, text=[self._prompt] * len(pictures), generate_kwargs=self._generate)
        return [_text(answer) for answer in found]

    def _answers(self, pictures: list[Image.Image]) -> list[str]:
        """Answers to the prompt, in one pass: the pipeline takes chats one by one, or collates what only the processor knows how to pad."""
        processor = self._pipeline.processor
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": self._prompt}]}]
        question = processor.apply_chat_template(chat, add_generation_prompt=True)
        special = not question.startswith(processor.tokenizer.bos_token or "\0")  # or it would be there twice
        inputs = processor(
            images=[[picture] for picture in pictures], text=[question] * len(pictures), padding=True, return_tensors="pt",
            add_special_tokens=special,
        ).to(self._pipeline.device, dtype=self._pipeline.dtype)  # fmt: skip
        found = self._pipeline.model.generate(**inputs, **self._generate)
        answers: list[str] = processor.batch_decode(found[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return answers


def _load_pipeline(model: str, device: str | torch.device) -> Any:
    from transformers import pipeline

    try:
        return pipeline("image-text-to-text", model=model, device=device)
    except ImportError as error:
        raise CaptionerError(f"captioner {model} lacks a package; try: pip install 'synfer[captioner]' ({_first_line(error)})") from error
    except (OSError, ValueError, KeyError) as error:
        hint = "give a folder, or a name on the hub with HF_HUB_OFFLINE=0, of an image-text-to-text model"
        raise CaptionerError(f"captioner {model} cannot be loaded; {hint} ({_first_line(error)})") from error


def _text(answer: Any) -> str:
    """The generated text of one image; the pipeline wraps it once or twice."""
    while isinstance(answer, list):
        (answer,) = answer
    return str(answer["generated_text"])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
