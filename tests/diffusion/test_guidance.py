"""Semantic guidance walks down the gradient of -log p(target), sample by sample, and leaves sure samples alone."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from synfer.diffusion.guidance import SemanticGuidance, descend, published
from synfer.diffusion.prediction import predict, predict_clean
from synfer.diffusion.sampling import Conditions, sample_latents
from synfer.vocabulary import AU_COUNT

TARGETS = torch.tensor([0, 3, 5])
STEPS = 6


@pytest.fixture
def classify():
    """A linear classifier of clean latents, of which nothing is ever sure."""
    weight = torch.randn(8 * 8 * 8, 7, generator=torch.Generator().manual_seed(1)) * 0.02
    return lambda clean, timestep: clean.flatten(1) @ weight


@pytest.fixture
def classify_pixels():
    weight = torch.randn(3 * 32 * 32, 7, generator=torch.Generator().manual_seed(2)) * 0.02
    return lambda images: images.flatten(1) @ weight


def draw(backbone, semantic, rows=(0, 1, 2)):
    captions = ["a happy woman", "a man", "sad expression"]
    conditions = Conditions([captions[row] for row in rows], np.ones((len(rows), AU_COUNT), np.float32), [10 + row for row in rows])
    return sample_latents(backbone, conditions, num_inference_steps=STEPS, semantic=semantic, targets=TARGETS[list(rows)])


# --- one step down the gradient ---------------------------------------------------------------------------------------------------


def leaf(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_(True)


def test_a_small_step_lowers_the_loss_of_every_sample():
    embeds, weight, targets = leaf(6, 3, 4), leaf(12, 7, seed=1).detach(), torch.arange(6)
    moved = descend(embeds, embeds.flatten(1) @ weight, targets, strength=0.05)
    before, after = (F.cross_entropy(x.flatten(1) @ weight, targets, reduction="none") for x in (embeds, moved))
    assert (after < before).all()


def test_the_step_is_the_normalised_gradient_scaled_by_the_embedding():
    embeds, weight, targets = leaf(2, 3, 4), leaf(12, 7, seed=1).detach(), torch.tensor([1, 4])
    moved = descend(embeds, embeds.flatten(1) @ weight, targets, strength=0.1)
    for row in range(2):
        start = embeds[row].detach()
        probabilities = (start.flatten() @ weight).softmax(0)
        gradient = weight @ (probabilities - F.one_hot(targets[row], 7))  # dL/dc of softmax cross-entropy, by hand
        wanted = start.flatten() - 0.1 * start.norm() * gradient / gradient.norm()
        torch.testing.assert_close(moved[row].flatten(), wanted, atol=1e-5, rtol=1e-5)


def test_samples_do_not_mix():
    embeds, weight, targets = leaf(5, 3, 4), leaf(12, 7, seed=1).detach(), torch.arange(5)
    together = descend(embeds, embeds.flatten(1) @ weight, targets, strength=0.1)
    alone = embeds[2:3].detach().requires_grad_(True)
    torch.testing.assert_close(together[2:3], descend(alone, alone.flatten(1) @ weight, targets[2:3], strength=0.1))


def test_a_flat_loss_moves_nothing():
    embeds = leaf(2, 3, 4)
    assert torch.equal(descend(embeds, 0.0 * embeds.flatten(1)[:, :7], torch.tensor([1, 2]), strength=0.1), embeds)


# --- inside the denoising ---------------------------------------------------------------------------------------------------------


def steer(backbone, semantic, latents, embeds):
    """One guided step of three samples: the conditional prediction and the embedding to go on with."""
    steering = semantic.start(backbone, torch.zeros(3, AU_COUNT), TARGETS, steps=STEPS)
    with torch.no_grad():
        return steering.predict(2, latents, torch.tensor(500), embeds)


def loss(backbone, classify, latents, embeds):
    timestep = torch.tensor(500)
    with torch.no_grad():
        found = predict(backbone, latents, timestep, embeds, torch.zeros(3, AU_COUNT))
        return F.cross_entropy(classify(predict_clean(backbone, latents, timestep, found), timestep), TARGETS, reduction="none")


def test_a_guided_step_lowers_the_loss_through_the_unet(backbone, classify):
    latents, embeds = leaf(3, 8, 8, 8).detach(), backbone.embed(["a", "b", "c"])
    _, moved = steer(backbone, SemanticGuidance(classify, strength=0.01), latents, embeds)
    assert (loss(backbone, classify, latents, moved) < loss(backbone, classify, latents, embeds)).all()


def test_the_latent_form_goes_on_with_the_prediction_that_it_classified(backbone, classify):
    latents, embeds = leaf(3, 8, 8, 8).detach(), backbone.embed(["a", "b", "c"])
    found, moved = steer(backbone, SemanticGuidance(classify), latents, embeds)
    torch.testing.assert_close(found, predict(backbone, latents, torch.tensor(500), embeds, torch.zeros(3, AU_COUNT)))
    assert not torch.equal(moved, embeds)


def test_the_published_form_repeats_the_prediction_with_the_new_embedding(backbone, classify_pixels):
    latents, embeds = leaf(3, 8, 8, 8).detach(), backbone.embed(["a", "b", "c"])
    found, moved = steer(backbone, published(backbone, classify_pixels, strength=0.05, window=(0.2, 0.8)), latents, embeds)
    torch.testing.assert_close(found, predict(backbone, latents, torch.tensor(500), moved, torch.zeros(3, AU_COUNT)))
    assert (moved != embeds).flatten(1).any(dim=1).all()


def test_strength_zero_draws_the_unguided_face_bit_for_bit(backbone, classify):
    assert torch.equal(draw(backbone, SemanticGuidance(classify, strength=0.0)), draw(backbone, None))


@pytest.mark.parametrize("form", ["latent", "published"])
def test_guidance_changes_faces_and_a_face_is_the_same_alone_and_in_a_batch(backbone, classify, classify_pixels, form):
    semantic = SemanticGuidance(classify) if form == "latent" else published(backbone, classify_pixels, strength=0.05, window=(0.2, 0.8))
    together = draw(backbone, semantic)
    assert (together - draw(backbone, None)).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    for row in range(3):
        torch.testing.assert_close(together[row : row + 1], draw(backbone, semantic, rows=(row,)), atol=1e-4, rtol=1e-4)


def test_samples_of_which_the_guide_is_sure_are_drawn_as_without_guidance(backbone, classify):
    def surer(clean, timestep):
        """Sure that every face shows class 0, which only the first one is asked for."""
        return classify(clean, timestep) + 50.0 * F.one_hot(torch.tensor(0), 7)

    guided, unguided = draw(backbone, SemanticGuidance(surer)), draw(backbone, None)
    torch.testing.assert_close(guided[0], unguided[0], atol=1e-5, rtol=1e-5)
    assert (guided[1:] - unguided[1:]).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_only_unsure_samples_are_differentiated(backbone, classify):
    differentiated = []

    def count(clean, timestep):
        differentiated.append(len(clean) if clean.requires_grad else 0)
        return classify(clean, timestep) + 50.0 * F.one_hot(torch.tensor(0), 7)

    draw(backbone, SemanticGuidance(count, window=(0.5, 1.0)))
    assert sum(differentiated) == 3 * 2  # three guided steps, two samples each


def test_the_window_and_the_stride_choose_the_steps(classify):
    guidance = SemanticGuidance(classify, window=(0.2, 0.8), every=3)
    assert [index for index in range(10) if guidance.acts_at(index, 10)] == [2, 5]
