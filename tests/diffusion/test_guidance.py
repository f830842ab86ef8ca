"""Semantic guidance walks down the gradient of -log p(target), sample by sample, and leaves sure samples alone."""

import torch
from torch.nn import functional as F

from synfer.diffusion.guidance import SemanticGuidance, descend, predict_clean, through_decoder


def linear_logits(weight: torch.Tensor):
    return lambda embeds: embeds.flatten(1) @ weight


def test_a_small_step_lowers_the_loss_of_every_sample():
    generator = torch.Generator().manual_seed(0)
    embeds, weight, targets = torch.randn(6, 3, 4, generator=generator), torch.randn(12, 7, generator=generator), torch.arange(6)
    moved = descend(embeds, linear_logits(weight), targets, strength=0.05)
    before, after = (F.cross_entropy(linear_logits(weight)(x), targets, reduction="none") for x in (embeds, moved))
    assert (after < before).all()


def test_the_step_is_the_normalised_gradient_scaled_by_the_embedding():
    embeds, weight, targets = torch.randn(2, 3, 4), torch.randn(12, 7), torch.tensor([1, 4])
    moved = descend(embeds, linear_logits(weight), targets, strength=0.1)
    for row in range(2):
        probabilities = linear_logits(weight)(embeds[row : row + 1]).softmax(1)[0]
        gradient = weight @ (probabilities - F.one_hot(targets[row], 7))  # dL/dc of softmax cross-entropy, by hand
        wanted = embeds[row].flatten() - 0.1 * embeds[row].norm() * gradient / gradient.norm()
        torch.testing.assert_close(moved[row].flatten(), wanted, atol=1e-5, rtol=1e-5)


def test_a_sample_does_not_depend_on_its_batch():
    embeds, weight, targets = torch.randn(5, 3, 4), torch.randn(12, 7), torch.arange(5)
    together = descend(embeds, linear_logits(weight), targets, strength=0.1)
    alone = descend(embeds[2:3], linear_logits(weight), targets[2:3], strength=0.1)
    torch.testing.assert_close(together[2:3], alone)


def test_clean_latents_are_recovered_from_the_true_velocity(backbone):
    clean, noise = torch.randn(2, 8, 8, 8), torch.randn(2, 8, 8, 8)
    timestep = torch.tensor(300)
    noisy = backbone.scheduler.add_noise(clean, noise, timestep.expand(2))
    velocity = backbone.scheduler.get_velocity(clean, noise, timestep.expand(2))
    torch.testing.assert_close(predict_clean(backbone, noisy, timestep, velocity), clean, atol=1e-4, rtol=1e-4)


def steer(backbone, guidance):
    latents, embeds = torch.randn(3, 8, 8, 8), backbone.embed(["a", "b", "c"])
    aus, conditional = torch.zeros(3, 42), torch.randn(3, 8, 8, 8)
    return embeds, guidance.steer(backbone, latents, torch.tensor(500), embeds, aus, conditional, torch.tensor([0, 1, 2]))


def test_sure_samples_are_left_alone(backbone):
    def classify(clean, timestep):
        if len(clean) == 3:  # the look at everybody: the first two are sure of their targets, the third of another class
            return 20.0 * torch.eye(7)[[0, 1, 3]]
        return clean.mean(dim=(1, 2, 3))[:, None] * torch.arange(7.0)

    embeds, (moved, _) = steer(backbone, SemanticGuidance(classify=classify))
    assert torch.equal(moved[:2], embeds[:2])
    assert not torch.equal(moved[2], embeds[2])


def test_the_published_form_repeats_the_prediction(backbone):
    pixels = torch.randn(3 * 32 * 32, 7)
    classify = through_decoder(backbone, lambda images: images.flatten(1) @ pixels * 1e-3)
    _, (_, again) = steer(backbone, SemanticGuidance(classify=classify, confidence=1.0, second_forward=True))
    _, (_, reused) = steer(backbone, SemanticGuidance(classify=classify, confidence=1.0))
    assert again.shape == reused.shape == (3, 8, 8, 8)
    assert not torch.equal(again, reused)


def test_the_window_and_the_stride_choose_the_steps():
    guidance = SemanticGuidance(classify=lambda clean, timestep: clean, window=(0.2, 0.8), every=3)
    assert [index for index in range(10) if guidance.acts_at(index, 10)] == [2, 5]
