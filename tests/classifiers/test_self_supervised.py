"""Self-supervised training: it makes features that a probe reads, it resumes exactly with its momentum networks, it opens no connection."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from synfer.classifiers.backbones import ClassifierError
from synfer.classifiers.loop import WEIGHTS, Schedule
from synfer.classifiers.models import Network, create, load, save
from synfer.classifiers.probe import linear_probe
from synfer.classifiers.self_supervised import METHODS, encode, pretrain
from synfer.classifiers.views import Views

SIDE, DIRECTIONS = 32, 4


def stripes(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Faint stripes in one of four directions, the class, over strong colours and shades that say nothing about it."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % DIRECTIONS
    angle, phase = np.pi * labels / DIRECTIONS + generator.normal(0, 0.08, count), generator.uniform(0, 2 * np.pi, count)
    down, across = np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    line = np.cos(angle)[:, None, None] * across + np.sin(angle)[:, None, None] * down
    wave = np.cos(6 * np.pi * line + phase[:, None, None])[..., None] * generator.uniform(0.05, 0.1, (count, 1, 1, 1))
    shade = np.einsum("nkc,khw->nhwc", generator.normal(0, 0.25, (count, 2, 3)), np.stack([across, down]))
    noise = generator.normal(0, 0.05, (count, SIDE, SIDE, 3))
    return ((generator.uniform(0.2, 0.8, (count, 1, 1, 3)) + shade + wave + noise).clip(0, 1) * 255).astype(np.uint8), labels


def probed(encoder: Network) -> float:
    """Accuracy on 300 images of a probe that saw 20."""
    (train, labels), (test, truth) = stripes(20, seed=1), stripes(300, seed=3)
    features, targets = encode(encoder, train), np.eye(DIRECTIONS)[labels]
    probe = linear_probe(features, targets, features, targets, classes=DIRECTIONS, strengths=[0.1])
    return float((probe.probabilities(encode(encoder, test)).argmax(1) == truth).mean())


def test_a_probe_reads_little_from_a_random_network_and_much_from_a_trained_one() -> None:
    random = [probed(create("resnet10t", 0, image_size=SIDE, seed=seed)) for seed in range(3)]
    schedule = Schedule(epochs=6, batch_size=50, learning_rate=3e-3)
    images, _ = stripes(400, seed=0)
    trained = probed(pretrain(images, method="simclr", backbone="resnet10t", schedule=schedule, views=Views(flip=False)))
    assert max(random) < 0.4  # chance is 0.25
    assert trained > 0.7


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lowers_its_loss_and_gives_an_encoder(method: str, tmp_path: Path) -> None:
    images, _ = stripes(64, seed=0)
    history: list[dict[str, float]] = []
    schedule = Schedule(epochs=4, batch_size=32, learning_rate=1e-3)
    encoder = pretrain(images, method=method, backbone="test_vit", schedule=schedule, on_epoch=lambda _, metrics: history.append(metrics))
    assert history[-1]["loss"] < history[0]["loss"]
    assert not encoder.training
    features = encode(encoder, images[:5])
    assert (features.shape, features.dtype) == ((5, encoder.width), np.float32)
    assert features.std(0).mean() > 0.01  # not collapsed to one point
    save(encoder, tmp_path, {"method": method})
    assert np.allclose(features, encode(load(tmp_path).module, images[:5]), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_in_bf16_about_as_in_full_precision(method: str) -> None:
    images, _ = stripes(32, seed=0)
    losses: dict[str, float] = {}
    for precision in ("no", "bf16"):
        schedule = Schedule(epochs=1, batch_size=32, precision=precision)
        pretrain(
            images,
            method=method,
            backbone="test_vit",
            schedule=schedule,
            on_epoch=lambda _, seen, key=precision: losses.update({key: seen["loss"]}),
        )
    assert losses["bf16"] == pytest.approx(losses["no"], rel=0.05)
    assert losses["bf16"] != losses["no"]


class Killed(Exception):
    """What stops a training in the middle."""


@pytest.mark.parametrize(("method", "backbone"), [("byol", "resnet10t"), ("mae", "test_vit")])
def test_a_killed_training_resumes_to_the_same_networks_momentum_included(method: str, backbone: str, tmp_path: Path) -> None:
    images, _ = stripes(48, seed=0)
    settings: dict[str, Any] = {"method": method, "backbone": backbone, "schedule": Schedule(epochs=3, batch_size=16)}

    def kill(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 1:
            raise Killed

    whole = pretrain(images, **settings, checkpoint=tmp_path / "whole")
    with pytest.raises(Killed):
        pretrain(images, **settings, checkpoint=tmp_path / "killed", on_epoch=kill)
    resumed = pretrain(images, **settings, checkpoint=tmp_path / "killed")
    assert np.array_equal(encode(whole, images), encode(resumed, images))
    one, other = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(name.startswith("module/target.") for name in one) == (method == "byol")


def test_another_seed_is_another_encoder() -> None:
    images, _ = stripes(32, seed=0)
    settings: dict[str, Any] = {"method": "mocov3", "backbone": "test_vit", "schedule": Schedule(epochs=1, batch_size=16)}
    first, again, other = (encode(pretrain(images, **settings, seed=seed), images) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


def test_what_cannot_be_trained_says_so() -> None:
    images, schedule = np.zeros((4, 32, 32, 3), np.uint8), Schedule(epochs=1)
    with pytest.raises(ClassifierError, match=r"unknown method 'dino'.*simclr"):
        pretrain(images, method="dino", backbone="test_vit", schedule=schedule)
    with pytest.raises(ClassifierError, match="MAE hides tokens of a plain vision transformer"):
        pretrain(images, method="mae", backbone="resnet10t", schedule=schedule)
    with pytest.raises(ClassifierError, match=r"uint8 \(N, S, S, 3\), found uint8 \(4, 32, 30, 3\)"):
        pretrain(images[:, :, 1:-1], method="simclr", backbone="test_vit", schedule=schedule)
    with pytest.raises(ClassifierError, match="at least two, found 1"):
        pretrain(images[:1], method="simclr", backbone="test_vit", schedule=schedule)
    with pytest.raises(ClassifierError, match="byol has no temperature"):
        pretrain(images, method="byol", backbone="test_vit", schedule=schedule, temperature=0.1)


def test_lightly_opens_no_connection_prints_nothing_and_starts_no_thread() -> None:
    code = """
import sys, threading
sys.addaudithook(lambda event, args: sys.exit(f"{event} {args}") if event in ("socket.connect", "socket.getaddrinfo") else None)
from synfer.classifiers import self_supervised
print(threading.active_count(), "lightly" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 True\n", "")
