"""Training: a killed run that resumes ends where an uninterrupted one ends; the averaged weights can be looked at and put back."""

import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import debug_launcher
from safetensors.torch import load_file
from torch import nn

from synfer.diffusion.training import Schedule, Training, TrainingError


class Killed(Exception):
    """Stands for the kill."""


def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 2)


def loss_of(module: nn.Module):
    def loss(step: int):
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (module(inputs) - inputs[:, :2]).square().mean(), {}

    return loss


SCHEDULE = Schedule(steps=12, learning_rate=1e-2, warmup=2, save_every=4)


def test_resuming_after_a_kill_gives_the_same_weights(tmp_path):
    whole = model()
    Training([whole], SCHEDULE, checkpoint=tmp_path / "whole").run(loss_of(whole), title="whole")

    def kill(step: int, _: dict[str, float]) -> None:
        if step == 6:  # two steps after the last checkpoint
            raise Killed

    first, second = model(), model()
    with pytest.raises(Killed):
        Training([first], SCHEDULE, checkpoint=tmp_path / "killed").run(loss_of(first), title="killed", on_step=kill)
    resumed = Training([second], SCHEDULE, checkpoint=tmp_path / "killed")
    steps = []
    resumed.run(loss_of(second), title="resumed", on_step=lambda step, _: steps.append(step))
    assert steps == list(range(5, SCHEDULE.steps + 1))  # from the checkpoint on: starting anew would end alike
    torch.testing.assert_close(second.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_averaged_weights_are_put_back(tmp_path):
    module = model()
    training = Training([module], SCHEDULE, checkpoint=tmp_path / "c")
    training.run(loss_of(module), title="average")
    last = module.weight.detach().clone()
    with training.averaged():
        assert not torch.equal(module.weight, last)
    assert torch.equal(module.weight, last)


def test_frozen_parameters_stay(tmp_path):
    module = model()
    module.bias.requires_grad_(False)
    before = module.bias.clone()
    Training([module], SCHEDULE, checkpoint=tmp_path / "c").run(loss_of(module), title="frozen")
    assert torch.equal(module.bias, before)


def test_a_checkpoint_holds_what_trains_and_nothing_else(tmp_path):
    module = model()
    module.weight.requires_grad_(False)
    Training([module], SCHEDULE, checkpoint=tmp_path / "c").run(loss_of(module), title="small")
    assert list(load_file(tmp_path / "c" / "model.safetensors")) == ["0.bias"]


def test_a_checkpoint_of_another_training_is_told_by_name(tmp_path):
    module = model()
    Training([module], SCHEDULE, checkpoint=tmp_path / "c").run(loss_of(module), title="first")
    wider = nn.Linear(4, 3)
    with pytest.raises(TrainingError, match=r"0\.weight should be \(3, 4\), found \(2, 4\)"):
        Training([wider], SCHEDULE, checkpoint=tmp_path / "c").run(loss_of(wider), title="second")


def test_accumulated_batches_train_like_one_large_batch(tmp_path):
    parts, whole = model(), model()
    Training([parts], replace(SCHEDULE, gradient_accumulation=3), checkpoint=tmp_path / "a").run(loss_of(parts), title="parts")
    losses = loss_of(whole)

    def mean(step: int):
        return torch.stack([losses(3 * step + part)[0] for part in range(3)]).mean(), {}

    Training([whole], SCHEDULE, checkpoint=tmp_path / "b").run(mean, title="whole")
    torch.testing.assert_close(parts.state_dict(), whole.state_dict())


def test_history_is_resumed_with_the_weights(tmp_path):
    def run(training: Training, module: nn.Module, last: int) -> None:
        def note(step: int, shown: dict[str, float]) -> None:
            training.history.append({"step": step, **shown})
            if step == last:
                raise Killed

        training.run(loss_of(module), title="history", on_step=note)

    module, again, whole = model(), model(), model()
    with pytest.raises(Killed):
        run(Training([module], SCHEDULE, checkpoint=tmp_path / "c"), module, last=6)
    resumed = Training([again], SCHEDULE, checkpoint=tmp_path / "c")
    run(resumed, again, last=0)
    uninterrupted = Training([whole], SCHEDULE, checkpoint=tmp_path / "d")
    run(uninterrupted, whole, last=0)
    assert resumed.history == uninterrupted.history
    assert [point["step"] for point in resumed.history] == list(range(1, 13))


def test_precisions_may_follow_one_another_in_a_process(tmp_path):
    weights = {}
    for precision in ("no", "bf16", "no"):
        module = model()
        folder = tmp_path / str(len(weights)) / precision
        Training([module], replace(SCHEDULE, mixed_precision=precision), checkpoint=folder).run(loss_of(module), title=precision)
        assert module.weight.dtype == torch.float32
        if precision in weights:
            assert torch.equal(weights[precision], module.weight)
        weights[precision] = module.weight.detach()
    assert not torch.equal(weights["no"], weights["bf16"])


def test_half_precision_needs_a_gpu(tmp_path):
    with pytest.raises(TrainingError, match="fp16 needs a GPU"):
        Training([model()], replace(SCHEDULE, mixed_precision="fp16"), checkpoint=tmp_path / "c")


def _train_in_a_process(folder: str) -> None:
    """One of two processes; the main one leaves the weights in its checkpoint, once of a whole training and once of a killed one."""
    module = model()
    Training([module], SCHEDULE, checkpoint=Path(folder) / "two").run(loss_of(module), title="two")

    def kill(step: int, _: dict[str, float]) -> None:
        if step == 6:
            raise Killed

    first, second = model(), model()
    with contextlib.suppress(Killed):
        Training([first], SCHEDULE, checkpoint=Path(folder) / "resumed").run(loss_of(first), title="killed", on_step=kill)
    Training([second], SCHEDULE, checkpoint=Path(folder) / "resumed").run(loss_of(second), title="resumed")


@pytest.mark.slow
def test_two_processes_train_like_one_with_twice_the_batch_also_after_a_kill(tmp_path):
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], capture_output=True, text=True)  # forks: not from pytest's threads
    assert done.returncode == 0, done.stderr
    whole = model()
    losses = loss_of(whole)

    def both(step: int):
        return (losses(2 * step)[0] + losses(2 * step + 1)[0]) / 2, {}

    Training([whole], SCHEDULE, checkpoint=tmp_path / "one").run(both, title="one")
    two, one, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "one", "resumed"))
    torch.testing.assert_close(two, one)
    torch.testing.assert_close(resumed, two, rtol=0, atol=0)


if __name__ == "__main__":
    debug_launcher(_train_in_a_process, args=(sys.argv[1],), num_processes=2)
