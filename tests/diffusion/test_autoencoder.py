"""Autoencoder: unit latents by folding change nothing that is decoded; the loss weighs hue; batches walk through every row an epoch."""

import torch

from synfer.diffusion.autoencoder import batch_rows, face_weight, feature_distance, opponent, reconstruction_loss, standardise_latents
from synfer.diffusion.tiny_sd import tiny_autoencoder


def test_standardised_latents_are_unit_and_decode_to_the_same_image():
    torch.manual_seed(0)
    vae, images = tiny_autoencoder(channels=(8, 8, 16), image_size=32), torch.rand(16, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = vae.decode(vae.encode(images).latent_dist.mean).sample
        spread = vae.encode(images).latent_dist.std
    _, deviation = standardise_latents(vae, [images[:8], images[8:]])
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
        torch.testing.assert_close(vae.decode(posterior.mean).sample, before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(posterior.mean.mean(dim=(0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(posterior.mean.std(dim=(0, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(posterior.std, spread / deviation[:, None, None], atol=1e-4, rtol=1e-3)


def test_hue_weighs_more_than_lightness():
    grey, red = torch.full((1, 3, 2, 2), 0.1), torch.tensor([0.2, -0.1, -0.1])[None, :, None, None].expand(1, 3, 2, 2)
    torch.testing.assert_close(opponent(grey), grey)
    assert (opponent(red).abs() > red.abs()).all()


def test_the_weight_has_mean_one_and_its_peak_on_the_face():
    weight = face_weight(64)
    torch.testing.assert_close(weight.mean(), torch.tensor(1.0))
    assert weight[35, 32] > weight[0, 0]


def test_the_loss_is_differentiable_and_reports_its_parts():
    vae = tiny_autoencoder(channels=(8, 8, 16), image_size=32)
    loss, shown = reconstruction_loss(vae, torch.rand(2, 3, 32, 32), features=lambda x: [x], weight=face_weight(32), seed=1)
    loss.backward()
    assert set(shown) == {"l1", "features", "kl"}
    assert all(parameter.grad is not None for parameter in vae.parameters())


def test_an_epoch_visits_every_row_once_and_the_next_in_another_order():
    epoch = torch.cat([batch_rows(12, batch_size=4, step=step, seed=0) for step in range(3)])
    other = torch.cat([batch_rows(12, batch_size=4, step=step, seed=0) for step in range(3, 6)])
    assert sorted(epoch.tolist()) == sorted(other.tolist()) == list(range(12))
    assert epoch.tolist() != other.tolist()


def test_the_feature_distance_is_one_a_row():
    wanted = [torch.randn(3, 4, 5, 5), torch.randn(3, 2, 2, 2)]
    found = [layer.clone() for layer in wanted]
    found[0][1] += 1.0
    distance = feature_distance(found, wanted)
    assert distance[0] == distance[2] == 0
    assert distance[1] > 0
