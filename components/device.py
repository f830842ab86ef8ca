"""The device that a configuration names."""

from __future__ import annotations

import torch

from synfer.errors import SynferError


class DeviceError(SynferError):
    """A device that torch does not know or that is not there."""


def torch_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one and else the CPU; raises DeviceError on an unknown name or an absent device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:0, ...") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} is not here; torch sees {torch.cuda.device_count()} CUDA devices")
    return device
