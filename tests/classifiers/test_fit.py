"""Training learns, obeys weights and seeds, and keeps the best epoch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synfer.classifiers.examples import Examples, ExamplesError, examples
from synfer.classifiers.fit import action_units, fit, intensity_loss, soft_cross_entropy
from synfer.classifiers.models import Network, create
from synfer.classifiers.predict import predict
from synfer.classifiers.sampling import epoch_rows
from synfer.vocabulary import AU_COUNT, AU_INDEX

SIZE = 16


def stripes(rows: int, seed: int) -> Examples:
    """Two classes, horizontal and vertical stripes, that survive mirroring and small turns."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    wave = np.sin(np.arange(SIZE) * 1.6 + rng.uniform(0, 6, (rows, 1)))[:, :, None] * np.ones((1, 1, SIZE))
    wave = np.where(labels[:, None, None] == 1, wave.transpose(0, 2, 1), wave)
    pixels = np.clip(128 + 80 * wave + rng.normal(0, 30, wave.shape), 0, 255).astype(np.uint8)
    return examples(np.repeat(pixels[..., None], 3, axis=3), np.eye(2)[labels])


def network(seed: int = 0, outputs: int = 2) -> Network:
    return create("resnet10t", outputs, image_size=SIZE, seed=seed)


def test_it_learns_and_keeps_the_best_epoch() -> None:
    model, seen, val = network(), [], stripes(60, seed=1)
    history = fit(model, stripes(160, seed=0), val, epochs=4, batch_size=32, on_epoch=lambda epoch, metrics: seen.append((epoch, metrics)))
    best = max(epoch["val_uar"] for epoch in history)
    assert best > 0.9
    found = predict(model, val.images).argmax(1) == val.targets.argmax(1)
    assert found.mean() == pytest.approx(max(history, key=lambda epoch: epoch["val_uar"])["val_accuracy"])
    assert seen == list(enumerate(history))
    assert not model.training


def test_same_seed_same_weights() -> None:
    models = [network(), network(), network()]
    for model, seed in zip(models, (7, 7, 8), strict=True):
        fit(model, stripes(32, seed=0), stripes(16, seed=1), epochs=1, batch_size=16, seed=seed)
    first, second, other = (model.head[1].weight for model in models)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_examples_of_no_weight_teach_nothing() -> None:
    right = stripes(160, seed=0)
    wrong = Examples(right.images, right.targets[:, ::-1].copy(), np.zeros(160, np.float32))
    both = Examples(*(np.concatenate([getattr(right, name), getattr(wrong, name)]) for name in ("images", "targets", "weights")))
    history = fit(network(), both, stripes(60, seed=1), epochs=3, batch_size=32)
    assert max(epoch["val_uar"] for epoch in history) > 0.9


@pytest.mark.parametrize("options", [{"mixup": 0.2}, {"randaugment": 5}, {"precision": "bf16"}, {"patience": 2}])
def test_every_option_learns(options: dict[str, Any]) -> None:
    history = fit(network(), stripes(160, seed=0), stripes(60, seed=1), epochs=5, batch_size=32, **options)
    assert max(epoch["val_uar"] for epoch in history) > 0.85
    assert len(history) <= 5


def test_balanced_rows_find_the_rare_class() -> None:
    every, val = stripes(400, seed=0), stripes(60, seed=1)
    rare = every.take(np.concatenate([np.arange(0, 400, 2), np.arange(1, 10, 2)]))
    draw = epoch_rows([len(rare)], [1.0], labels=rare.targets.argmax(1))
    history = fit(network(), rare, val, epochs=4, batch_size=32, draw=draw)
    assert max(epoch["val_uar"] for epoch in history) > 0.85


def test_an_interrupted_fit_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"train": stripes(64, seed=0), "val": stripes(16, seed=1), "epochs": 3, "batch_size": 16, "mixup": 0.2}
    whole, resumed = network(), network()
    history = fit(whole, **parts)

    def stop(epoch: int, _: dict[str, float]) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(resumed, **parts, checkpoint=tmp_path / "checkpoint", on_epoch=stop)
    assert fit(network(), **parts, checkpoint=tmp_path / "checkpoint") == history
    fit(resumed, **parts, checkpoint=tmp_path / "checkpoint")
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_soft_cross_entropy_agrees_with_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(5, 7, generator=generator), torch.rand(5, 7, generator=generator).softmax(1)
    expected = -(targets * logits.log_softmax(1)).sum(1)
    assert torch.allclose(soft_cross_entropy(logits, targets, 0.0), expected, atol=1e-6)


def test_unknown_action_units_have_no_gradient() -> None:
    outputs, targets = torch.full((2, AU_COUNT), 0.5, requires_grad=True), torch.full((2, AU_COUNT), 5.0)
    targets[:, AU_INDEX["12"]] = float("nan")
    intensity_loss(outputs, targets, torch.ones(AU_COUNT)).sum().backward()
    assert outputs.grad is not None
    assert (outputs.grad[:, AU_INDEX["12"]] == 0).all()
    assert (outputs.grad[:, AU_INDEX["6"]] < 0).all()  # 0.5 is below the wanted 5
    assert not outputs.grad.isnan().any()


def test_an_error_counts_in_units_of_the_spread() -> None:
    outputs, targets = torch.zeros(1, 2), torch.tensor([[3.0, 1.5]])
    assert intensity_loss(outputs, targets, torch.tensor([2.0, 1.0])).item() == pytest.approx((1.5**2 + 1.5**2) / 2)


def test_an_action_unit_that_never_varies_counts_in_plain_steps() -> None:
    objective = action_units(("12", "26", "9"), np.array([0.0, np.nan, 2.0]))
    assert objective.loss(torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 4.0]]), 0.0).item() == pytest.approx((1 + 4 + 4) / 3)


def test_a_regressor_learns_the_intensity_of_each_side() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.uniform(0, 5, (2, 400))
    images = np.zeros((400, SIZE, SIZE, 3), np.uint8)
    for image, l_value, r_value in zip(images, left, right, strict=True):
        image[int(15 - 2.8 * l_value) :, SIZE // 2 :] = 220  # the bar of the person's left, the image's right, grows with the intensity
        image[int(15 - 2.8 * r_value) :, : SIZE // 2] = 220
    codes = ("L12", "26", "R12")
    data = examples(images, np.stack([left, np.full(400, np.nan), right], axis=1))
    train, val = data.take(np.arange(320)), data.take(np.arange(320, 400))
    objective = action_units(codes, np.array([1.4, 1.0, 1.4]))
    model = create("resnet10t", codes, image_size=SIZE, seed=0)
    history = fit(model, train, val, epochs=12, batch_size=32, objective=objective)
    assert max(epoch["val_r"] for epoch in history) > 0.8


def test_targets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ExamplesError, match=r"training targets are \(8, 2\), the model has 7 outputs"):
        fit(network(outputs=7), stripes(8, seed=0), stripes(8, seed=0), epochs=1)
    with pytest.raises(ExamplesError, match="MixUp is for class probabilities"):
        fit(network(), stripes(8, seed=0), stripes(8, seed=0), epochs=1, mixup=0.2, objective=action_units(("12", "26")))
    with pytest.raises(ExamplesError, match="no validation examples"):
        fit(network(), stripes(8, seed=0), stripes(8, seed=0).take(np.zeros(0, int)), epochs=1)
