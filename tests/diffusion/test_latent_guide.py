"""The latent guide: it knows the timestep, learns from the U-Net's predictions, and stays with its autoencoder."""

import json

import pytest
import torch
from torch.nn import functional as F

from synfer.diffusion.backbone import load_backbone, save_backbone
from synfer.diffusion.latent_guide import LatentGuideError, LatentNetwork, autoencoder_sha256, load_latent_guide, save_latent_guide
from synfer.diffusion.latent_guide_fit import LabelledLatents, accuracy_by_timestep, predicted_latents, train_latent_guide
from synfer.diffusion.tiny_sd import tiny_autoencoder
from synfer.diffusion.training import Schedule
from synfer.vocabulary import AU_COUNT

CLASSES = ("neutral", "happiness", "sadness")


@pytest.fixture
def network() -> LatentNetwork:
    torch.manual_seed(0)
    return LatentNetwork(3, channels=8, size=8, width=16).eval()


def faces(backbone, count=96):
    """Latents whose class is the brightness of one channel; captions and AUs say nothing of it."""
    targets = torch.arange(count) % 3
    latents = 0.3 * torch.randn(count, 8, 8, 8, generator=torch.Generator().manual_seed(3))
    latents[:, 0] += 2.0 * (targets[:, None, None] - 1)
    return LabelledLatents(latents, targets, backbone.tokenize(["a face"] * count), torch.full((count, AU_COUNT), float("nan")))


def schedule(steps):
    return Schedule(steps=steps, learning_rate=3e-3, warmup=2, ema_decay=0.8, save_every=steps)


@pytest.mark.parametrize(("channels", "size"), [(8, 8), (8, 16), (4, 64), (4, 96)])
def test_it_fits_the_latents_of_any_backbone(channels, size):
    network = LatentNetwork(7, channels=channels, size=size, width=16)
    assert network(torch.randn(2, channels, size, size), torch.tensor(400)).shape == (2, 7)


def test_for_the_embedded_latents_it_is_small():
    count = sum(parameter.numel() for parameter in LatentNetwork(7, channels=8, size=16).parameters())
    assert 250_000 < count < 500_000  # below a megabyte in half precision


def test_it_knows_the_timestep_one_for_all_or_one_each(network):
    clean = torch.randn(2, 8, 8, 8)
    early, late = network(clean, torch.tensor(900)), network(clean, torch.tensor(100))
    assert not torch.allclose(early, late, atol=1e-3)
    each = network(clean, torch.tensor([900, 100]))
    torch.testing.assert_close(each, torch.stack([early[0], late[1]]), atol=1e-5, rtol=1e-5)


def test_predictions_at_little_noise_are_the_latents_of_each_face(backbone):
    data = faces(backbone, 6)
    found = predicted_latents(backbone, data, torch.zeros(6, dtype=torch.long), generator=torch.Generator().manual_seed(0))
    assert F.mse_loss(found, data.latents) < 0.05 * data.latents.var()


def test_it_learns_from_the_predictions_and_the_backbone_stays_as_it_was(backbone, tmp_path):
    before = {name: value.clone() for name, value in backbone.unet.state_dict().items()}
    data = faces(backbone)
    network = train_latent_guide(backbone, data, outputs=3, schedule=schedule(60), checkpoint=tmp_path / "c", seed=0, batch_size=24)
    found = accuracy_by_timestep(backbone, network, data, timesteps=(50, 400), seed=1)
    assert found[50] > 0.9
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in backbone.unet.state_dict().items())


def test_a_finished_training_is_read_from_its_checkpoint(backbone, tmp_path):
    settings = {"outputs": 3, "schedule": schedule(2), "checkpoint": tmp_path / "c", "seed": 0, "batch_size": 12}
    first = train_latent_guide(backbone, faces(backbone, 24), **settings)
    again = train_latent_guide(backbone, faces(backbone, 36), **settings)  # other faces, which would train it otherwise
    assert all(torch.equal(again.state_dict()[name], value) for name, value in first.state_dict().items())


def test_a_handful_of_faces_is_refused(backbone, tmp_path):
    with pytest.raises(LatentGuideError, match="at least a batch of 64 labelled faces, found 10"):
        train_latent_guide(backbone, faces(backbone, 10), outputs=3, schedule=schedule(1), checkpoint=tmp_path / "c", seed=0)


# --- its folder -------------------------------------------------------------------------------------------------------------------


def save(network, backbone, folder, **changes):
    return save_latent_guide(network, folder, **{"classes": CLASSES, "vae": backbone.vae, "card": {"seed": 7}, **changes})


def test_it_comes_back_the_same_with_its_card(network, backbone, tmp_path):
    digest = save(network, backbone, tmp_path / "guide")
    guide = load_latent_guide(tmp_path / "guide", vae=backbone.vae)
    clean, timestep = torch.randn(2, 8, 8, 8), torch.tensor(300)
    torch.testing.assert_close(guide(clean, timestep), network(clean, timestep))
    assert (guide.classes, guide.sha256, guide.card["seed"]) == (CLASSES, digest, 7)


def test_it_travels_in_its_backbones_folder_in_half_precision_too(network, backbone, tmp_path):
    save(network, backbone, tmp_path / "guide")
    backbone.guide = load_latent_guide(tmp_path / "guide", vae=backbone.vae)
    again = load_backbone(save_backbone(backbone, tmp_path / "half", dtype=torch.float16))
    clean, timestep = torch.randn(2, 8, 8, 8), torch.tensor(300)
    torch.testing.assert_close(again.guide(clean, timestep), backbone.guide(clean, timestep), atol=2e-2, rtol=2e-2)
    assert load_backbone(tmp_path / "half", dtype=torch.bfloat16).guide.sha256 == again.guide.sha256


def test_a_guide_of_another_autoencoder_is_refused(network, backbone, tmp_path):
    other = tiny_autoencoder(channels=(8, 8, 16), image_size=32)
    assert autoencoder_sha256(other) != autoencoder_sha256(backbone.vae)
    save(network, backbone, tmp_path / "guide", vae=other)
    with pytest.raises(LatentGuideError, match=r"not of .* beside it; delete the folder and train"):
        load_latent_guide(tmp_path / "guide", vae=backbone.vae)


@pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
def test_a_missing_file_is_named(network, backbone, tmp_path, name):
    save(network, backbone, tmp_path / "guide")
    (tmp_path / "guide" / name).unlink()
    with pytest.raises(LatentGuideError, match=f"{name} does not exist"):
        load_latent_guide(tmp_path / "guide", vae=backbone.vae)


def test_weights_that_are_not_the_cards_are_refused(network, backbone, tmp_path):
    save(network, backbone, tmp_path / "guide")
    card = json.loads((tmp_path / "guide" / "card.json").read_text())
    (tmp_path / "guide" / "card.json").write_text(json.dumps({**card, "sha256": "0" * 64}))
    with pytest.raises(LatentGuideError, match="its card says 000000000000"):
        load_latent_guide(tmp_path / "guide", vae=backbone.vae)
