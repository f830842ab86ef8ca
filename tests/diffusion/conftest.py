"""A generator of the real classes at the smallest size; its weights are random."""

import pytest
import torch

from synfer.captions import vocabulary_corpus
from synfer.diffusion.backbone import Backbone
from synfer.diffusion.tiny_sd import grammar_tokenizer, tiny_autoencoder, tiny_backbone


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    vae = tiny_autoencoder(channels=(8, 8, 16), image_size=32)
    return tiny_backbone(vae, grammar_tokenizer(vocabulary_corpus()), channels=(16, 16, 32), width=16).requires_grad_(False).eval()
