"""Layouts: inversion is undone by sampling, leads to the timestep where sampling starts, and a face keeps the layout it was given."""

import numpy as np
import pytest
import torch

from synfer.diffusion.au_adapter import unspecified
from synfer.diffusion.layout import invert, layout_noise
from synfer.diffusion.sampling import Conditions, first_timestep, sample_latents
from synfer.errors import SynferError
from synfer.pixels import to_tensor
from synfer.seeding import randn
from synfer.vocabulary import AU_COUNT


@pytest.fixture
def lively(backbone):
    """The random backbone with predictions as large as a trained one's, so that a step is not nearly a no-op."""
    with torch.no_grad():
        backbone.unet.conv_out.weight.mul_(4.0)
    return backbone


def redrawn(backbone, noise, *, steps, sampler="ddim", captions=None, aus=None, guidance=1.0):
    count = len(noise)
    asked = Conditions(captions or [""] * count, unspecified(count).numpy() if aus is None else aus, range(count))
    scales = {"guidance_scale": guidance, "au_guidance_scale": guidance}
    return sample_latents(backbone, asked, sampler=sampler, num_inference_steps=steps, initial_noise=noise, **scales)


def error(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def pictures(count, seed=0):
    """Images uint8 (count, 32, 32, 3) of large patches, each its own."""
    patches = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return patches.repeat(8, axis=1).repeat(8, axis=2)


def test_sampling_without_wishes_undoes_the_inversion_better_with_more_steps(lively):
    latents = randn(lively.latent_shape(), [1, 2])
    errors = {}
    for steps in (10, 40):
        noise = invert(lively, latents, first_timestep=999, num_inference_steps=steps)
        assert error(noise, latents) > 1.0  # it has gone somewhere
        errors[steps] = error(redrawn(lively, noise, steps=steps), latents)
    assert errors[40] < 0.15
    assert errors[40] < 0.4 * errors[10]


@pytest.mark.parametrize(("sampler", "spacing"), [("ddim", "trailing"), ("ddim", "leading"), ("dpm", "leading")])
def test_inversion_ends_at_the_noise_level_where_sampling_starts(backbone, sampler, spacing):
    """Where no noise is predicted, a deterministic step only rescales: by the square roots of the schedule's ends."""
    backbone.scheduler.register_to_config(timestep_spacing=spacing, prediction_type="epsilon")
    with torch.no_grad():
        backbone.unet.conv_out.weight.zero_()
        backbone.unet.conv_out.bias.zero_()
    start = first_timestep(backbone, sampler=sampler, num_inference_steps=20)
    assert start == 999 if spacing == "trailing" else 900 < start < 999
    latents, alphas = randn(backbone.latent_shape(), [1]), backbone.scheduler.alphas_cumprod
    for steps in (7, 20):  # 7 does not divide the schedule's thousand
        noise = invert(backbone, latents, first_timestep=start, num_inference_steps=steps)
        torch.testing.assert_close(noise, latents * (alphas[start] / alphas[0]).sqrt())


def test_a_face_is_nearer_to_its_layout_than_to_another_image(lively):
    layouts = randn(lively.latent_shape(), range(4))
    words = ["happy expression", "sad expression", "angry expression", "neutral expression"]
    wishes = {"captions": words, "aus": np.ones((4, AU_COUNT), np.float32), "guidance": 3.0}

    def distances(noise):
        faces = redrawn(lively, noise, steps=10, sampler="dpm", **wishes)
        return torch.cdist(faces.flatten(1), layouts.flatten(1))

    own = torch.eye(4, dtype=torch.bool)
    found = distances(invert(lively, layouts, first_timestep=999))
    assert found[own].max() < 0.7 * found[~own].min()
    without = distances(randn(lively.latent_shape(), range(7, 11)))
    assert without[own].min() > 0.9 * without[~own].min()


def test_without_strength_a_face_starts_from_its_own_noise(lively):
    images = to_tensor(pictures(2))
    found = {s: layout_noise(lively, images, seeds=[5, 6], first_timestep=999, strength=s) for s in (0.0, 0.6, 1.0)}
    assert torch.equal(found[0.0], randn(lively.latent_shape(), [5, 6]))
    torch.testing.assert_close(found[0.6], 0.6 * found[1.0] + 0.8 * found[0.0])


def test_a_layout_is_the_same_alone_and_in_a_batch(lively):
    images = to_tensor(pictures(3))
    together = layout_noise(lively, images, seeds=[5, 6, 7], first_timestep=999, strength=0.9)
    alone = layout_noise(lively, images[1:2], seeds=[6], first_timestep=999, strength=0.9)
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)


def test_noise_of_another_shape_is_refused(backbone):
    with pytest.raises(SynferError, match=r"initial noise is \(2, 8, 4, 4\); 1 samples of tiny-sd start from \(1, 8, 8, 8\)"):
        sample_latents(backbone, Conditions([""], np.zeros((1, AU_COUNT)), [1]), initial_noise=torch.zeros(2, 8, 4, 4))
