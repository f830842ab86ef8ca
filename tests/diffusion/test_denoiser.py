"""The denoiser's loss: conditions drop independently by their shares, the weighting is the published one, gradients reach every part."""

import torch

from synfer.diffusion.denoiser import Dropout, Perception, denoising_loss, drop_conditions, middle_timesteps, min_snr_weight
from synfer.vocabulary import AU_COUNT


def test_conditions_drop_by_their_own_shares():
    count, empty = 20_000, torch.zeros(3, dtype=torch.long)
    tokens, aus = torch.ones(count, 3, dtype=torch.long), torch.ones(count, AU_COUNT)
    dropout = Dropout(caption=0.2, aus=0.3, nothing=0.1, some_aus=0.0)
    tokens, aus = drop_conditions(tokens, aus, empty=empty, dropout=dropout, generator=torch.Generator().manual_seed(0))
    no_caption, no_aus = (tokens == 0).all(dim=1), aus.isnan().all(dim=1)
    assert abs(no_caption.float().mean() - (0.1 + 0.9 * 0.2)) < 0.01
    assert abs(no_aus.float().mean() - (0.1 + 0.9 * 0.3)) < 0.01
    assert abs((no_caption & no_aus).float().mean() - (0.1 + 0.9 * 0.06)) < 0.01


def test_some_aus_leaves_half_of_them_unspecified():
    aus = torch.ones(2_000, AU_COUNT)
    tokens = torch.ones(2_000, 2, dtype=torch.long)
    dropout = Dropout(caption=0.0, aus=0.0, nothing=0.0, some_aus=1.0)
    _, aus = drop_conditions(tokens, aus, empty=tokens[0], dropout=dropout, generator=torch.Generator().manual_seed(0))
    assert abs(aus.isnan().float().mean() - 0.5) < 0.01


def test_middle_timesteps_favour_the_middle_and_reach_the_ends():
    steps = middle_timesteps(50_000, 1000, torch.Generator().manual_seed(0))
    middle, low, high = ((steps >= a) & (steps < b) for a, b in ((400, 600), (0, 50), (950, 1000)))
    assert middle.float().mean() > 0.25
    assert low.any() and high.any()
    assert steps.min() >= 0 and steps.max() < 1000


def test_min_snr_weight_of_velocity_follows_the_paper(backbone):
    timesteps = torch.tensor([10, 500, 990])
    alpha = backbone.scheduler.alphas_cumprod[timesteps]
    snr = alpha / (1 - alpha)
    torch.testing.assert_close(min_snr_weight(backbone, timesteps, 5.0), snr.clamp(max=5.0) / (snr + 1))


def test_gradients_reach_unet_text_encoder_and_adapter(backbone):
    backbone.requires_grad_(True)
    tokens = backbone.tokenize(["happy expression", "sad expression"])
    everything = Dropout(caption=0.0, aus=0.0, nothing=0.0, some_aus=0.0)
    loss = denoising_loss(
        backbone,
        torch.randn(2, 8, 8, 8),
        tokens,
        torch.full((2, AU_COUNT), 2.0),
        generator=torch.Generator().manual_seed(0),
        dropout=everything,
    )
    loss.backward()
    processor = next(iter(backbone.au_adapter.processors.values()))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in processor.parameters())
    assert backbone.text_encoder.get_input_embeddings().weight.grad.abs().sum() > 0
    assert backbone.unet.conv_in.weight.grad.abs().sum() > 0


def test_the_perceptual_loss_counts_only_where_the_noise_leaves_features(backbone):
    def loss(perception: Perception | None) -> float:
        torch.manual_seed(1)
        latents, aus = torch.randn(8, 8, 8, 8), torch.zeros(8, AU_COUNT)
        generator = torch.Generator().manual_seed(0)
        tokens = backbone.tokenize(["happy expression"] * 8)
        return float(denoising_loss(backbone, latents, tokens, aus, generator=generator, dropout=Dropout(), perception=perception))

    plain = loss(None)
    assert loss(Perception(lambda latents: [latents], min_snr=1e9)) == plain
    assert loss(Perception(lambda latents: [latents], min_snr=0.0)) > loss(Perception(lambda latents: [latents], min_snr=1.0)) > plain
