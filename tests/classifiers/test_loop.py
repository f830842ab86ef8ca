"""The training loop: pace, averaged weights, the best epoch, early stop, and a resume that ends in the very same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from synfer.classifiers.loop import LoopError, Schedule, check_precision, pace, run_loop

ROWS, CPU = 60, torch.device("cpu")
SCHEDULE = Schedule(epochs=6, batch_size=16, learning_rate=0.01)
INPUTS = torch.randn(ROWS, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = (INPUTS.mean((1, 2, 3)) > 0).long()


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(seed: int = 0) -> nn.Sequential:
    """Convolutions, batch statistics and dropout: all that makes an exact resume hard."""
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    return nn.Sequential(*layers)


def loss_of(module: nn.Module) -> Callable[[np.ndarray, torch.Generator], tuple[Tensor, dict[str, float]]]:
    def loss(rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        noise = torch.randn(len(rows), 3, 8, 8, generator=generator) * 0.1
        return F.cross_entropy(module(INPUTS[rows] + noise), TARGETS[rows]), {"rows": float(len(rows))}

    return loss


def score(module: nn.Module) -> dict[str, float]:
    module.eval()
    with torch.inference_mode():
        value = -F.cross_entropy(module(INPUTS), TARGETS)
    return {"val_fit": float(value), "val_other": 0.5}


def train(module: nn.Module, schedule: Schedule = SCHEDULE, **options: object) -> list[dict[str, float]]:
    return run_loop(module, ROWS, schedule, **{"loss": loss_of(module), "score": score, "seed": 3, **options})  # type: ignore[arg-type]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_the_pace_rises_in_a_line_and_falls_by_a_cosine() -> None:
    values = [pace(step, 100, warmup=0.1) for step in range(100)]
    assert values[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert values[10:] == pytest.approx([0.5 * (1 + np.cos(np.pi * step / 90)) for step in range(90)])
    assert [pace(step, 1, warmup=0.1) for step in range(1)] == [1.0]


def test_it_learns_and_leaves_the_averaged_weights_of_the_best_epoch() -> None:
    model, seen = network(), []
    history = train(model, on_epoch=lambda epoch, metrics: seen.append((epoch, metrics)))
    assert history[-1]["val_fit"] > history[0]["val_fit"]
    assert score(model)["val_fit"] == max(epoch["val_fit"] for epoch in history)
    assert [set(epoch) for epoch in history] == [{"loss", "rows", "val_fit", "val_other"}] * 6
    assert seen == list(enumerate(history))
    assert not model.training


def test_the_averaged_weights_agree_with_a_slow_average() -> None:
    schedule = Schedule(epochs=2, batch_size=16, learning_rate=0.01, ema=0.5)  # 8 steps, so a decay of 1 - 1 / 4
    model, steps, numbers = network(), [], []

    def after_step(step: int, of: int) -> None:
        steps.append({name: value.clone() for name, value in model.state_dict().items()})
        numbers.append((step, of))

    train(model, schedule, score=None, after_step=after_step)
    assert numbers == [(step, 8) for step in range(1, 9)]
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            wanted = steps[0][name]
            for step in steps[1:]:
                wanted = 0.75 * wanted + 0.25 * step[name]
            assert torch.allclose(value, wanted, atol=1e-6), name


def test_norms_and_biases_are_not_decayed() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.named_parameters()}

    def loss(rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return sum(parameter.sum() * 0 for parameter in model.parameters()), {}

    run_loop(model, ROWS, Schedule(epochs=1, batch_size=16, learning_rate=0.1, weight_decay=0.5), loss=loss, seed=0)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == (value.ndim <= 1), name


def test_training_stops_when_val_gets_no_better_and_keeps_the_best() -> None:
    values = iter([0.1, 0.3, 0.2, 0.3, 0.25, 0.9])
    model, weights = network(), []

    def falling(module: nn.Module) -> dict[str, float]:
        weights.append({name: value.clone() for name, value in module.state_dict().items()})
        return {"val": next(values)}

    history = train(model, Schedule(epochs=6, batch_size=16, patience=3), score=falling)
    assert [epoch["val"] for epoch in history] == [0.1, 0.3, 0.2, 0.3, 0.25]
    assert all(torch.equal(value, weights[1][name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("epochs", [1, 3, 6])
def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path, epochs: int) -> None:
    whole, resumed = network(), network()
    history = train(whole)

    def stop(epoch: int, _: dict[str, float]) -> None:
        if epoch == epochs - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(resumed, checkpoint=tmp_path / "checkpoint", on_epoch=stop)
    torch.rand(5)  # random numbers drawn elsewhere do not matter
    told: list[int] = []
    again = network(seed=9)
    assert train(again, checkpoint=tmp_path / "checkpoint", on_epoch=lambda epoch, _: told.append(epoch)) == history
    assert same(whole, again)
    assert told == [0, 1, 2, 3, 4, 5]


def test_a_finished_training_gives_back_its_result(tmp_path: Path) -> None:
    first, second = network(), network(seed=9)
    history = train(first, checkpoint=tmp_path / "checkpoint")

    def never(rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        raise AssertionError("a finished training must not train")

    assert train(second, checkpoint=tmp_path / "checkpoint", loss=never) == history
    assert same(first, second)


def test_a_killed_process_goes_on_to_the_same_weights(tmp_path: Path, one_thread: None) -> None:
    command = [sys.executable, str(Path(__file__)), str(tmp_path / "killed")]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    _wait_for(lambda: len(_history(tmp_path / "killed")) >= 2)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=20) == -signal.SIGKILL
    assert len(_history(tmp_path / "killed")) < SCHEDULE.epochs
    whole, resumed = network(), network(seed=9)
    history = train(whole, checkpoint=tmp_path / "whole")
    assert train(resumed, checkpoint=tmp_path / "killed") == history
    assert same(whole, resumed)
    left = [load_file(tmp_path / name / "training.safetensors") for name in ("whole", "killed")]
    assert left[0].keys() == left[1].keys()
    assert all(torch.equal(value, left[1][name]) for name, value in left[0].items())


def test_another_trainings_checkpoint_is_refused(tmp_path: Path) -> None:
    train(network(), Schedule(epochs=1, batch_size=16), checkpoint=tmp_path)
    with pytest.raises(LoopError, match="of another training: epochs is 1, this one has 6"):
        train(network(), Schedule(epochs=6, batch_size=16), checkpoint=tmp_path)
    with pytest.raises(LoopError, match="of another training: seed is 3, this one has 4"):
        train(network(), Schedule(epochs=1, batch_size=16), checkpoint=tmp_path, seed=4)
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(LoopError, match=r"of another model: 1\.weight should be \(2, 192\), found \(8,\)"):
        train(other, Schedule(epochs=1, batch_size=16), checkpoint=tmp_path)


def test_bf16_trains_and_weights_stay_in_full_precision() -> None:
    model, kinds = network(), set()
    hook = model[0].register_forward_hook(lambda _, __, output: kinds.add(output.dtype))
    history = train(model, Schedule(epochs=2, batch_size=16, precision="bf16"), score=None)
    hook.remove()
    assert kinds == {torch.bfloat16}
    assert np.isfinite(history[-1]["loss"])
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_what_cannot_be_kept_is_named() -> None:
    with pytest.raises(LoopError, match="fp16 needs a GPU"):
        check_precision("fp16", CPU)
    with pytest.raises(LoopError, match="unknown precision 'bf8'; known: no, bf16, fp16"):
        train(network(), Schedule(epochs=1, precision="bf8"))
    with pytest.raises(LoopError, match="1 epochs of 0 rows are no training"):
        run_loop(network(), 0, Schedule(epochs=1), loss=loss_of(network()))
    with pytest.raises(LoopError, match="an epoch should have 60 rows, 10 were drawn"):
        train(network(), draw=lambda _: np.arange(10))
    with pytest.raises(LoopError, match="the loss of epoch 1 is nan"):
        train(network(), loss=lambda *_: (torch.full((), float("nan"), requires_grad=True), {}))


def _history(folder: Path) -> list[dict[str, float]]:
    try:
        return list(json.loads((folder / "progress.json").read_text())["history"])
    except FileNotFoundError:
        return []


def _wait_for(reached: Callable[[], bool]) -> None:
    for _ in range(1000):
        if reached():
            return
        time.sleep(0.05)
    raise AssertionError("the training has not come so far")


if __name__ == "__main__":  # the training that a test kills, slow enough to be met halfway
    torch.set_num_threads(1)
    train(network(), checkpoint=Path(sys.argv[1]), after_step=lambda *_: time.sleep(0.2))
