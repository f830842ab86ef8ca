"""Any timm backbone fits small images; what is saved loads as the same model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from synfer.classifiers.backbones import MIN_CELLS, ClassifierError
from synfer.classifiers.models import create, load, save
from synfer.classifiers.predict import features, predict, predict_aus
from synfer.vocabulary import DEFAULT_EXPRESSIONS

ARCHITECTURES = ["resnet10t", "mobilenetv3_small_100", "convnext_atto", "efficientnet_lite0", "plain_cnn"]


def batch(rows: int = 2, size: int = 64) -> torch.Tensor:
    return torch.rand(rows, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_backbone_keeps_enough_cells(architecture: str) -> None:
    model = create(architecture, DEFAULT_EXPRESSIONS, image_size=64).eval()
    (maps,) = model.backbone(batch())
    assert min(maps.shape[2:]) >= MIN_CELLS
    assert model(batch()).shape == (2, 7)


@pytest.mark.parametrize(
    ("architecture", "size", "cells"), [("test_vit", 64, 8), ("test_vit", 100, 10), ("swin_tiny_patch4_window7_224", 64, 4)]
)
def test_transformers_are_made_for_the_size_and_give_their_channels_first(architecture: str, size: int, cells: int) -> None:
    encoder = create(architecture, 0, image_size=size).eval()
    (maps,) = encoder.backbone(batch(size=size))
    assert maps.shape == (2, encoder.width, cells, cells)
    assert encoder(batch(size=size)).shape == (2, encoder.width)


def test_a_network_without_outputs_is_an_encoder_and_is_loaded_as_one(tmp_path: Path) -> None:
    encoder = create("test_vit", 0, image_size=32).eval()
    save(encoder, tmp_path, {})
    images = batch(size=32)
    assert torch.equal(encoder(images), encoder.features(images))
    assert torch.allclose(load(tmp_path)(images), encoder(images), atol=1e-6)


def test_a_transformer_without_square_patches_is_refused_in_one_line() -> None:
    with pytest.raises(ClassifierError, match="no embedding of square patches"):
        create("mixer_s16_224", 7, image_size=64)


def test_large_images_keep_every_stage() -> None:
    small, large = (create("resnet10t", 7, image_size=size).norm.normalized_shape[0] for size in (64, 224))
    assert (small, large) == (256, 512)


def test_another_size_is_resized_and_its_gradient_comes_back() -> None:
    model = create("mobilenetv3_small_100", 7, image_size=64).eval()
    images = batch(size=96).requires_grad_()
    model(images).log_softmax(1)[:, 0].sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


@pytest.mark.parametrize("cells", [1, 2])
def test_saved_and_loaded_is_the_same_model(tmp_path: Path, cells: int) -> None:
    model = create("resnet10t", DEFAULT_EXPRESSIONS, image_size=32, cells=cells, seed=5).eval()
    digest = save(model, tmp_path, {"note": "kept"})
    loaded = load(tmp_path)
    assert torch.allclose(loaded(batch(size=32)), model(batch(size=32)), atol=1e-6)
    assert (loaded.sha256, loaded.classes, loaded.card["note"]) == (digest, DEFAULT_EXPRESSIONS, "kept")
    assert loaded.card["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())


def test_a_grid_of_cells_keeps_places_apart() -> None:
    whole, grid = (create("resnet10t", 7, image_size=64, cells=cells).eval() for cells in (1, 2))
    left = torch.zeros(1, 3, 64, 64)
    left[..., :24] = batch(rows=1)[..., :24]
    (maps,) = grid.backbone((left * 0.5 + 0.5 - grid.mean) / grid.std)
    assert torch.allclose(grid.norm(maps.unflatten(3, (2, -1)).unflatten(2, (2, -1)).mean(dim=(3, 5)).flatten(1)), grid.features(left))
    assert torch.allclose(whole.norm(maps.mean(dim=(2, 3))), whole.features(left), atol=1e-6)


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(1)
    first = create("resnet10t", 7, image_size=32, seed=3).head[1].weight
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, create("resnet10t", 7, image_size=32, seed=3).head[1].weight)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, create("resnet10t", 7, image_size=32, seed=4).head[1].weight)


def test_predictions_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    model = create("resnet10t", DEFAULT_EXPRESSIONS, image_size=32)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    found = predict(model, pixels, batch_size=7)
    assert np.allclose(found, predict(model, pixels, batch_size=2), atol=1e-5)
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    assert predict(model, pixels[:0]).shape == (0, 7)
    assert model.training  # predicting leaves the model as it was
    unit = features(model, pixels)
    assert unit.shape == (7, 128)
    assert np.allclose(unit.std(1), 1, atol=0.02)


def test_a_regressor_gives_intensities() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = predict_aus(create("resnet10t", ("L12", "R12", "26"), image_size=32), pixels)
    assert found.shape == (3, 3)
    assert (found >= 0).all()
    assert (found <= 5).all()


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"unknown architecture 'resnet10'.*did you mean"):
        create("resnet10", 7, image_size=64)
    with pytest.raises(ClassifierError, match="needs images of at least 8 pixels, not 4"):
        create("resnet10t", 7, image_size=4)
    with pytest.raises(ClassifierError, match="plain_cnn needs images of at least 64 pixels, not 48"):
        create("plain_cnn", 7, image_size=48)
    with pytest.raises(ClassifierError, match=r"card\.json does not exist"):
        load(tmp_path)
    save(create("resnet10t", 7, image_size=32), tmp_path, {})
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**card, "sha256": "0" * 64}))
    with pytest.raises(ClassifierError, match="its card says 000000000000"):
        load(tmp_path)


def test_residual_branches_are_dropped_in_training_alone() -> None:
    plain, dropping = (create("resnet10t", 7, image_size=64, drop_path=share).eval() for share in (0.0, 0.9))
    for model in (plain, dropping):
        for name, value in model.named_parameters():
            if name.endswith("bn2.weight"):
                torch.nn.init.ones_(value)  # timm starts with branches that add nothing
    assert torch.equal(plain(batch()), dropping(batch()))
    with torch.no_grad():
        maps = [dropping.train().backbone(batch(rows=8))[0] for _ in range(3)]
    assert len({float(value.sum()) for value in maps}) == 3
    with pytest.raises(ClassifierError, match=r"plain_cnn cannot drop residual branches \(drop_path 0\.5\)"):
        create("plain_cnn", 7, image_size=64, drop_path=0.5)


@pytest.mark.parametrize("call", [predict, predict_aus, features])
def test_a_model_stays_where_it_is(call: Callable[..., np.ndarray]) -> None:
    model = create("plain_cnn", 0, image_size=64).to("meta")  # a device that every machine has; to leave it is an error
    assert len(call(model, np.zeros((0, 64, 64, 3), np.uint8))) == 0
    assert next(model.parameters()).device.type == "meta"


def test_no_images_have_features_of_the_same_width() -> None:
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    for outputs in (0, 7):
        model = create("plain_cnn", outputs, image_size=64)
        assert features(model, pixels[:0]).shape == (0, features(model, pixels).shape[1]) == (0, model.width)
        assert predict(model, pixels[:0]).shape == predict(model, pixels)[:0].shape
