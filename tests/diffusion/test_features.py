"""U-Net features: shapes, and attention that agrees with diffusers' own eager processor."""

import torch
from diffusers.models.attention_processor import Attention

from synfer.captions import EXPRESSION_WORDS
from synfer.diffusion.features import _attention, naming_caption, unet_features


def test_maps_of_every_scale_and_attention_of_every_word(backbone):
    features = unet_features(backbone, torch.rand(2, 3, 32, 32) * 2 - 1, timestep=10, seeds=[1, 2])
    assert [tuple(m.shape) for m in features.maps] == [(2, 32, 2, 2), (2, 32, 4, 4), (2, 16, 8, 8), (2, 16, 8, 8)]
    assert features.attention.shape == (2, len(EXPRESSION_WORDS), 4, 4)
    assert (features.attention >= 0).all()
    assert (features.attention.sum(dim=1) <= 1.0 + 1e-5).all()


def test_attention_is_what_diffusers_computes():
    layer = Attention(query_dim=8, cross_attention_dim=6, heads=2, dim_head=4)
    hidden, text = torch.randn(1, 9, 8), torch.randn(1, 5, 6)
    query, key = layer.head_to_batch_dim(layer.to_q(hidden)), layer.head_to_batch_dim(layer.to_k(text))
    wanted = layer.get_attention_scores(query, key).mean(dim=0)
    torch.testing.assert_close(_attention(layer, hidden, text).flatten(1, 2)[0], wanted)


def test_the_caption_names_every_expression_where_it_says(backbone):
    caption, positions = naming_caption(backbone)
    ids = backbone.tokenize([caption])[0]
    for word, place in zip(EXPRESSION_WORDS.values(), positions, strict=True):
        assert ids[place].tolist() == backbone.tokenizer(word, add_special_tokens=False).input_ids


def test_features_depend_on_the_samples_own_seed(backbone):
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    together = unet_features(backbone, images, timestep=100, seeds=[3, 4])
    alone = unet_features(backbone, images[1:], timestep=100, seeds=[4])
    torch.testing.assert_close(together.maps[-1][1:], alone.maps[-1], atol=1e-5, rtol=1e-5)
