"""Image and text in one space, as CLIP (arXiv:2103.00020): a timm encoder and a small CLIP text model, which classify by prompts."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401 - mends torchvision before transformers imports it

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from synfer.classifiers.backbones import ClassifierError
from synfer.classifiers.models import CARD, WEIGHTS, create
from synfer.classifiers.predict import features
from synfer.files import sha256, whole_file, write_json

TOKENIZER = "tokenizer.json"
START, END, PAD = "<|startoftext|>", "<|endoftext|>", "<|pad|>"
MAX_SCALE = math.log(100.0)
"""Of the similarities, as in CLIP, or the training becomes unstable."""


class ImageText(nn.Module):
    """Encoder of images and encoder of texts into unit vectors of one space.

    `tokenizer` has the tokens START, END and PAD, puts START and END around a text, and cuts and pads to one length.
    """

    def __init__(
        self, backbone: str, tokenizer: Tokenizer, *, image_size: int, width: int = 128, layers: int = 2, space: int = 128, seed: int = 0
    ) -> None:
        super().__init__()
        self.sizes: dict[str, Any] = {"backbone": backbone, "image_size": image_size, "width": width, "layers": layers, "space": space}
        self.tokenizer = tokenizer
        self.encoder = create(backbone, 0, image_size=image_size, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.text = _text_model(tokenizer, width=width, layers=layers)
            self.image_projection = nn.Linear(self.encoder.width, space, bias=False)
            self.text_projection = nn.Linear(width, space, bias=False)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors (N, C) of images (N, 3, H, W) in [-1, 1]."""
        return F.normalize(self.image_projection(self.encoder(images)).float(), dim=1)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Unit vectors (N, C) of token numbers (N, length)."""
        known = tokens.ne(self.text.config.pad_token_id)
        length = int(known.sum(1).max())  # the attention is causal, so the padding that all share is only work
        pooled = self.text(input_ids=tokens[:, :length], attention_mask=known[:, :length].long()).pooler_output
        return F.normalize(self.text_projection(pooled).float(), dim=1)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """The contrastive loss of images (N, 3, H, W) in [-1, 1] and the tokens (N, length) of their captions."""
        alike = (tokens[:, None] == tokens[None]).all(2)
        one, other = self.embed_images(images), self.embed_tokens(tokens)
        with torch.autocast(images.device.type, enabled=False):  # 16 bits are too few for similarities times a scale of up to 100
            return pair_loss(one @ other.T * self.scale.clamp(max=MAX_SCALE).exp(), alike)

    def probabilities(self, images: np.ndarray, prompts: Mapping[str, Sequence[str]], *, batch_size: int = 256) -> np.ndarray:
        """Class probabilities float32 (N, K) of images uint8 (N, H, W, 3), classes in the order of the prompts.

        A class is the mean direction of its prompts. The softmax has the trained scale.
        """
        with torch.inference_mode():
            directions = self.class_directions(prompts)
            device = self.image_projection.weight.device
            maps = torch.from_numpy(features(self.encoder, images, batch_size=batch_size, device=device)).to(device)
            space = F.normalize(self.image_projection(maps), dim=1)
            return (space @ directions.T * self.scale.clamp(max=MAX_SCALE).exp()).softmax(1).cpu().numpy()

    def class_directions(self, prompts: Mapping[str, Sequence[str]]) -> Tensor:
        """Unit vectors (K, C) of the classes; raises ClassifierError if there is no class, or one without a prompt."""
        empty = [name for name, texts in prompts.items() if not texts]
        if not prompts or empty:
            raise ClassifierError(f"every class needs a prompt; {f'{empty[0]} has none' if empty else 'there are no classes'}")
        was_training = self.text.training
        self.text.eval()
        means = [self.embed_tokens(self.tokens(texts)).mean(0) for texts in prompts.values()]
        self.text.train(was_training)
        return F.normalize(torch.stack(means), dim=1)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token numbers int64 (N, length), on the model's device."""
        return token_numbers(self.tokenizer, texts).to(self.scale.device)


def pair_loss(logits: Tensor, alike: Tensor) -> Tensor:
    """Symmetric cross-entropy of logits (N, N) of images and texts, where `alike` (N, N) says which texts are equal.

    With unique captions this is CLIP's loss. Equal captions share the target, for neither is a wrong answer (arXiv:2204.03610, section 3).
    """
    targets = alike / alike.sum(1, keepdim=True)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def caption_tokenizer(captions: Iterable[str], *, vocabulary_size: int = 700, length: int = 48) -> Tokenizer:
    """Byte-level BPE whose merges are learned from the captions; it can spell any text, in lower case."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=[PAD, START, "<|unused|>", END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    special = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=special)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=tokenizer.token_to_id(PAD), pad_token=PAD)
    return tokenizer


def token_numbers(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Token numbers int64 (N, length) of the texts."""
    return torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(list(texts))], dtype=torch.long)


def save_image_text(model: ImageText, folder: Path, card: dict[str, Any]) -> str:
    """Write weights, tokenizer and card to a folder; the card gains all that `load_image_text` needs. Returns the weights' SHA-256."""
    with whole_file(folder / WEIGHTS) as temporary:
        safetensors.torch.save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, temporary)
    with whole_file(folder / TOKENIZER) as temporary:
        model.tokenizer.save(str(temporary))
    digests = {"sha256": sha256(folder / WEIGHTS), "tokenizer_sha256": sha256(folder / TOKENIZER)}
    write_json(folder / CARD, {**card, "image_text": model.sizes, **digests})
    return digests["sha256"]


def load_image_text(folder: Path, *, device: str | torch.device = "cpu") -> ImageText:
    """What `save_image_text` wrote, ready to predict; raises ClassifierError if a file is missing or is not the card's."""
    for name in (CARD, WEIGHTS, TOKENIZER):
        if not (folder / name).is_file():
            raise ClassifierError(f"{folder / name} does not exist; an image-text folder holds {WEIGHTS}, {TOKENIZER} and {CARD}")
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    for name, key in ((WEIGHTS, "sha256"), (TOKENIZER, "tokenizer_sha256")):
        if (digest := sha256(folder / name)) != card.get(key):
            raise ClassifierError(f"{folder / name} has sha256 {digest[:12]}, its card says {str(card.get(key))[:12]}")
    sizes = dict(card["image_text"])
    model = ImageText(sizes.pop("backbone"), Tokenizer.from_file(str(folder / TOKENIZER)), **sizes)
    model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    return model.eval().requires_grad_(False).to(device)


def _text_model(tokenizer: Tokenizer, *, width: int, layers: int) -> CLIPTextModel:
    numbers = {token: tokenizer.token_to_id(token) for token in (START, END, PAD)}
    missing = [token for token, number in numbers.items() if number is None]
    if missing or tokenizer.padding is None:
        raise ClassifierError(f"the tokenizer must know {START}, {END} and {PAD}, and pad; see caption_tokenizer")
    config = CLIPTextConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=4, max_position_embeddings=tokenizer.padding["length"], projection_dim=width,
        bos_token_id=numbers[START], eos_token_id=numbers[END], pad_token_id=numbers[PAD],
    )  # fmt: skip
    return CLIPTextModel(config)
