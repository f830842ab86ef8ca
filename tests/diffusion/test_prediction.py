"""Clean latents follow from what the U-Net predicts, noise or velocity, at any timestep."""

import pytest
import torch

from synfer.diffusion.prediction import predict_clean


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_clean_latents_are_found_again_from_the_true_prediction_at_each_samples_timestep(backbone, kind):
    backbone.scheduler.register_to_config(prediction_type=kind)
    clean, noise, timesteps = torch.randn(3, 8, 8, 8), torch.randn(3, 8, 8, 8), torch.tensor([10, 500, 900])
    noisy = backbone.scheduler.add_noise(clean, noise, timesteps)
    true = noise if kind == "epsilon" else backbone.scheduler.get_velocity(clean, noise, timesteps)
    torch.testing.assert_close(predict_clean(backbone, noisy, timesteps, true), clean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predict_clean(backbone, noisy[:1], timesteps[0], true[:1]), clean[:1], atol=1e-4, rtol=1e-4)
