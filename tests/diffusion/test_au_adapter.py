"""The adapter's promises: the AU changes the image, scale 0 is the base model, unspecified is not relaxed, tokens are graded."""

import numpy as np
import pytest
import torch

from synfer.diffusion.au_adapter import AdapterError, AUTokens, attach_au_adapter, au_condition, load_au_adapter, unspecified
from synfer.diffusion.backbone import plain_unet
from synfer.diffusion.tiny_sd import tiny_unet
from synfer.vocabulary import AU_COUNT, AU_INDEX, au_vector


def predict(backbone, aus):
    latents = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    prompt_embeds = backbone.embed(["happy expression", ""])
    with torch.no_grad():
        return backbone.unet(latents, torch.tensor([500, 500]), prompt_embeds, added_cond_kwargs=au_condition(aus)).sample


def smile(intensity: float) -> torch.Tensor:
    return torch.from_numpy(np.stack([au_vector({"12": intensity})] * 2))


def test_an_au_changes_the_prediction(backbone):
    assert (predict(backbone, smile(4)) - predict(backbone, smile(0))).abs().max() > 1e-5


def test_at_scale_zero_the_unet_is_the_base_model(backbone):
    backbone.au_adapter.set_scale(0.0)
    base = plain_unet(backbone.unet)
    latents, prompt_embeds = torch.randn(2, 8, 8, 8), backbone.embed(["a photo", "sad expression"])
    with torch.no_grad():
        wanted = base(latents, torch.tensor([10, 10]), prompt_embeds).sample
        found = backbone.unet(latents, torch.tensor([10, 10]), prompt_embeds, added_cond_kwargs=au_condition(smile(5))).sample
    torch.testing.assert_close(found, wanted)


def test_a_silent_adapter_leaves_the_base_model_as_it_is_until_it_is_trained(backbone):
    base = plain_unet(backbone.unet)
    latents, text = torch.randn(2, 8, 8, 8), backbone.embed(["a photo", "sad expression"])
    with torch.no_grad():
        wanted = base(latents, torch.tensor([10, 10]), text).sample
    adapter = attach_au_adapter(base, silent=True)
    found = base(latents, torch.tensor([10, 10]), text, added_cond_kwargs=au_condition(smile(5))).sample
    torch.testing.assert_close(found, wanted)
    found.square().mean().backward()
    values = [processor.to_v_ip[0].weight.grad.abs().max() for processor in adapter.processors.values()]
    assert all(value > 0 for value in values)  # it can leave zero


def test_unspecified_is_not_relaxed():
    tokens = AUTokens(16)
    torch.nn.init.normal_(tokens.unspecified)
    relaxed, nothing = tokens(torch.zeros(1, AU_COUNT)), tokens(unspecified(1))
    assert (relaxed - nothing).abs().mean() > 0.05


def test_one_unspecified_au_leaves_the_other_tokens_alone():
    tokens = AUTokens(16)
    torch.nn.init.normal_(tokens.unspecified)
    aus = torch.zeros(1, AU_COUNT)
    without = aus.clone()
    without[0, AU_INDEX["12"]] = float("nan")
    difference = (tokens(aus) - tokens(without)).abs().sum(dim=-1)[0]
    assert torch.nonzero(difference).flatten().tolist() == [AU_INDEX["12"]]


def test_a_fractional_intensity_lies_between_its_neighbours():
    tokens = AUTokens(16)
    tokens.mix, tokens.norm = torch.nn.Identity(), torch.nn.Identity()
    low, middle, high = (tokens(smile(value))[0, AU_INDEX["12"]] for value in (2.0, 2.5, 3.0))
    torch.testing.assert_close(middle, (low + high) / 2)


def test_a_side_is_its_unit_and_something_of_its_own():
    tokens = AUTokens(16)
    unit, left, right = (AU_INDEX[code] for code in ("12", "L12", "R12"))
    at_first = tokens(smile(3))[0].detach()
    with torch.no_grad():
        tokens.identity[unit] += torch.linspace(-1, 1, 16)
        of_the_unit = tokens(smile(3))[0]
        tokens.identity[unit] -= torch.linspace(-1, 1, 16)
        tokens.identity[left] += torch.linspace(-1, 1, 16)
        of_the_left = tokens(smile(3))[0]
    moved = [torch.nonzero((after - at_first).abs().sum(dim=-1) > 1e-4).flatten().tolist() for after in (of_the_unit, of_the_left)]
    assert moved == [[unit, left, right], [left]]


def test_saved_weights_come_back(backbone, tmp_path):
    backbone.au_adapter.save(tmp_path)
    other = plain_unet(backbone.unet)
    load_au_adapter(other, tmp_path)
    latents, text, aus = torch.randn(2, 8, 8, 8), backbone.embed(["a", "b"]), smile(3)
    with torch.no_grad():
        found = other(latents, torch.tensor([7, 7]), text, added_cond_kwargs=au_condition(aus)).sample
        wanted = backbone.unet(latents, torch.tensor([7, 7]), text, added_cond_kwargs=au_condition(aus)).sample
    torch.testing.assert_close(found, wanted)


def test_weights_of_another_width_name_the_key(backbone, tmp_path):
    backbone.au_adapter.save(tmp_path)
    other = tiny_unet(sample_size=8, channels=(16, 16, 32), cross_attention_dim=32)
    with pytest.raises(AdapterError, match=r"tokens\.identity should be"):
        load_au_adapter(other, tmp_path)
