"""Training: a killed run that resumes ends where an uninterrupted one ends; the averaged weights can be looked at and put back."""

import pytest
import torch
from torch import nn

from synfer.diffusion.training import Schedule, Training


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
    resumed.run(loss_of(second), title="resumed")
    assert resumed.step == SCHEDULE.steps
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
