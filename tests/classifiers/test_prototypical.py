"""Prototypical training: the loss is the paper's, what is learned in episodes serves classes that training never saw."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synfer.classifiers.feature_rows import FeatureError
from synfer.classifiers.few_shot import few_shot
from synfer.classifiers.loop import Schedule
from synfer.classifiers.models import create
from synfer.classifiers.prototypical import episode_loss, fit_prototypical
from synfer.classifiers.self_supervised import encode

SIZES: dict[str, Any] = {"ways": 3, "shots": 2, "queries": 3}


def stripes(count: int, *, directions: range, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Faint stripes in some of eight directions, whose names are the labels, on strong colours that say nothing about them."""
    generator = np.random.default_rng(seed)
    labels = np.resize(np.array(directions), count)
    down, across = np.meshgrid(*[np.linspace(-1, 1, 32)] * 2, indexing="ij")
    angle = np.pi * labels[:, None, None] / 8
    wave = np.cos(6 * np.pi * (np.cos(angle) * across + np.sin(angle) * down) + generator.uniform(0, 2 * np.pi, (count, 1, 1)))
    pixels = generator.uniform(0.2, 0.8, (count, 1, 1, 3)) + 0.1 * wave[..., None] + generator.normal(0, 0.05, (count, 32, 32, 3))
    return (pixels.clip(0, 1) * 255).astype(np.uint8), np.array([f"direction {label}" for label in labels])


def test_the_loss_is_the_log_share_of_the_own_prototype() -> None:
    features = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    total, right = 0.0, 0
    prototypes = [features[way, :2].mean(0) for way in range(3)]
    for way in range(3):
        for query in features[way, 2:]:
            near = [math.exp(-float((query - prototype).square().mean())) for prototype in prototypes]
            total -= math.log(near[way] / sum(near))
            right += near[way] == max(near)
    loss, shown = episode_loss(features, 2)
    assert float(loss) == pytest.approx(total / 9, rel=1e-5)
    assert shown["accuracy"] == pytest.approx(right / 9)


def test_episodes_teach_what_new_classes_need() -> None:
    images, labels = stripes(120, directions=range(0, 8, 2), seed=0)
    schedule = Schedule(epochs=3, learning_rate=3e-3)
    trained = fit_prototypical(images, labels, backbone="resnet10t", **SIZES, episodes=25, schedule=schedule)
    new, names = stripes(80, directions=range(1, 8, 2), seed=1)
    before, after = (
        few_shot(encode(encoder, new), names, **SIZES, episodes=60).mean() for encoder in (create("resnet10t", 0, image_size=32), trained)
    )
    assert after > before + 0.2


def test_a_killed_training_resumes_to_the_same_encoder(tmp_path: Path) -> None:
    images, labels = stripes(30, directions=range(0, 8, 2), seed=0)
    settings: dict[str, Any] = {"backbone": "test_vit", **SIZES, "episodes": 2, "schedule": Schedule(epochs=2)}

    def kill(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 0:
            raise KeyboardInterrupt

    whole = fit_prototypical(images, labels, **settings)
    with pytest.raises(KeyboardInterrupt):
        fit_prototypical(images, labels, **settings, checkpoint=tmp_path / "checkpoint", on_epoch=kill)
    resumed = fit_prototypical(images, labels, **settings, checkpoint=tmp_path / "checkpoint")
    assert np.array_equal(encode(whole, images), encode(resumed, images))


def test_what_cannot_be_an_episode_is_refused() -> None:
    images, labels = stripes(12, directions=range(0, 8, 2), seed=0)
    settings: dict[str, Any] = {"backbone": "test_vit", "episodes": 1, "schedule": Schedule(epochs=1)}
    with pytest.raises(FeatureError, match="direction 0 has 3 examples"):
        fit_prototypical(images, labels, **settings, **SIZES)
    with pytest.raises(FeatureError, match="12 images, 11 labels"):
        fit_prototypical(images, labels[:11], **settings, **SIZES)
