"""Two tiny vision-language models of random weights, saved as the hub saves them: one continues a text, one chats."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

WORDS = ("a", "photo", "of", "woman", "man", "smiling", "young", "old", "face")
SIDE = 32
TINY = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
LOUD = {"initializer_range": 1.0}  # large random weights, so that what comes out depends on the image
EYE = {**TINY, **LOUD, "num_hidden_layers": 2, "image_size": SIDE, "patch_size": 16, "projection_dim": 16}
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}"
)


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that continues a text."""
    folder = tmp_path_factory.mktemp("models") / "tiny-blip"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", *WORDS]
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(words)})
    special = {"pad_token_id": 0, "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3}
    text = {**TINY, **LOUD, **special, "num_hidden_layers": 1, "encoder_hidden_size": 16, "vocab_size": len(words)}
    torch.manual_seed(0)
    BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=EYE, projection_dim=16)).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that chats."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llava"
    words = Tokenizer(WordLevel({w: i for i, w in enumerate(("<pad>", "<unk>", "<s>", "</s>", "<image>", *WORDS))}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, additional_special_tokens=["<image>"], **named)
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    text = {**TINY, **LOUD, **special, "model_type": "llama", "num_hidden_layers": 1, "vocab_size": len(tokenizer)}
    config = LlavaConfig(vision_config={**EYE, "model_type": "clip_vision_model"}, text_config=text, image_token_index=4, **LOUD)
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    LlavaProcessor(
        CLIPImageProcessor(size=square, crop_size=square), tokenizer, patch_size=16, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip
    return folder
