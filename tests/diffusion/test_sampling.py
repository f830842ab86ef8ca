"""Sampling: a face depends on its own seed alone, equal scales save a forward and change nothing."""

import numpy as np
import pytest
import torch

from synfer import pixels
from synfer.diffusion.autoencoder import reconstruct
from synfer.diffusion.layout import layout_noise
from synfer.diffusion.sampling import Conditions, decode, sample_latents
from synfer.pixels import to_tensor
from synfer.seeding import randn
from synfer.vocabulary import AU_COUNT


def conditions(seeds):
    captions = [f"{word} expression" for word in ("happy", "sad", "angry", "neutral")][: len(seeds)]
    return Conditions(captions, np.zeros((len(seeds), AU_COUNT), np.float32), seeds)


@pytest.mark.parametrize("sampler", ["dpm", "ddim"])
def test_a_face_is_the_same_alone_and_in_a_batch(backbone, sampler):
    together = sample_latents(backbone, conditions([5, 6, 7]), sampler=sampler, num_inference_steps=4)
    alone = sample_latents(backbone, conditions([5]), sampler=sampler, num_inference_steps=4)
    torch.testing.assert_close(together[:1], alone, atol=1e-4, rtol=1e-4)


def test_dpm_solver_comes_nearer_to_the_limit_than_ddim_in_as_many_steps(backbone):
    limit = sample_latents(backbone, conditions([1, 2]), sampler="ddim", num_inference_steps=200)
    distances = {
        sampler: (sample_latents(backbone, conditions([1, 2]), sampler=sampler, num_inference_steps=10) - limit).norm()
        for sampler in ("dpm", "ddim")
    }
    assert distances["dpm"] < 0.7 * distances["ddim"]


def test_two_forwards_at_equal_scales_are_the_three_forwards_in_the_limit(backbone):
    equal = sample_latents(backbone, conditions([1, 2]), num_inference_steps=3, guidance_scale=2.0, au_guidance_scale=2.0)
    almost = sample_latents(backbone, conditions([1, 2]), num_inference_steps=3, guidance_scale=2.0, au_guidance_scale=2.0 + 1e-6)
    torch.testing.assert_close(equal, almost, atol=1e-3, rtol=1e-3)


def test_guidance_acts_within_its_interval_only_and_saves_the_forwards_outside(backbone):
    def draw(**settings):
        calls = []
        hook = backbone.unet.register_forward_hook(lambda *_: calls.append(1))
        latents = sample_latents(backbone, conditions([1, 2]), num_inference_steps=5, **settings)
        hook.remove()
        return latents, len(calls)

    (never, one_each), (alone, _) = draw(cfg_interval=(0.0, 0.0)), draw(guidance_scale=1.0, au_guidance_scale=1.0)
    torch.testing.assert_close(never, alone, atol=1e-4, rtol=1e-4)
    (middle, some), (always, two_each) = draw(cfg_interval=(0.2, 0.6)), draw()
    assert (one_each, some, two_each) == (5, 7, 10)
    assert not torch.allclose(middle, always, atol=1e-3)
    assert not torch.allclose(middle, never, atol=1e-3)


def test_the_scale_of_the_aus_may_act_where_the_captions_does_not(backbone):
    asked = Conditions(["", ""], np.full((2, AU_COUNT), 5, np.float32), [1, 2])

    def draw(**settings):
        return sample_latents(backbone, asked, num_inference_steps=5, au_guidance_scale=20.0, **settings)

    apart = draw(cfg_interval=(0.0, 0.0), au_cfg_interval=(0.0, 1.0))
    torch.testing.assert_close(apart, draw(guidance_scale=1.0), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(apart, draw(cfg_interval=(0.0, 0.0)), atol=1e-2)
    torch.testing.assert_close(draw(cfg_interval=(0.2, 0.6), au_cfg_interval=(0.2, 0.6)), draw(cfg_interval=(0.2, 0.6)))


def test_aus_without_a_scale_have_no_say_in_any_step(backbone):
    def draw(intensity):
        asked = Conditions(["happy expression"] * 2, np.full((2, AU_COUNT), intensity, np.float32), [1, 2])
        intervals = {"cfg_interval": (0.2, 0.6), "au_cfg_interval": (0.2, 0.8)}
        return sample_latents(backbone, asked, num_inference_steps=5, guidance_scale=3.0, au_guidance_scale=0.0, **intervals)

    torch.testing.assert_close(draw(5.0), draw(np.nan), atol=0, rtol=0)


def test_decoded_images_are_bytes_of_the_backbones_size(backbone):
    images = decode(backbone, sample_latents(backbone, conditions([1, 2, 3]), num_inference_steps=2))
    assert images.shape == (3, 32, 32, 3)
    assert images.dtype == np.uint8


def test_the_autoencoder_never_takes_more_pixels_than_the_bound_and_draws_the_same(backbone, monkeypatch):
    latents, images = randn(backbone.latent_shape(), range(5)), np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    taken = []
    for part in (backbone.vae.encoder, backbone.vae.decoder):
        part.register_forward_hook(lambda module, inputs, output: taken.append(len(output)))

    def through():
        noise = layout_noise(backbone, to_tensor(images), seeds=range(5), first_timestep=999, num_inference_steps=2)
        return noise, *(torch.from_numpy(found).int() for found in (decode(backbone, latents), reconstruct(backbone.vae, images)))

    whole = through()
    assert taken == [5] * 4
    taken.clear()
    monkeypatch.setattr(pixels, "AT_ONCE", 2 * 32 * 32)
    for found, wanted, rounding in zip(through(), whole, (1e-4, 1, 1), strict=True):  # a byte may be rounded otherwise
        torch.testing.assert_close(found, wanted, atol=rounding, rtol=1e-4)
    assert taken and set(taken) == {1, 2}


def test_conditions_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="1 captions, 2 AU vectors and 2 seeds"):
        Conditions(["a"], np.zeros((2, AU_COUNT)), [1, 2])
