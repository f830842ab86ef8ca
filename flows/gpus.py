"""Which GPUs a worker may see: each worker of pool `gpu` has its own, so that no two jobs meet on one."""

from __future__ import annotations

import os

from synfer.errors import SynferError

VISIBLE = "CUDA_VISIBLE_DEVICES"


class GpuError(SynferError):
    """A wish for GPUs that do not come out even."""


def shares(gpus: int, each: int) -> list[str]:
    """The GPUs of every worker, as CUDA_VISIBLE_DEVICES names them; those that this environment may see are shared out.

    Raises GpuError if `gpus` is not a multiple of `each`, or the environment names fewer.
    """
    named = [name for name in os.environ.get(VISIBLE, "").split(",") if name] or [str(number) for number in range(gpus)]
    if gpus % each:
        raise GpuError(f"{gpus} GPUs cannot be shared out by {each}")
    if gpus > len(named):
        raise GpuError(f"{gpus} GPUs are asked for, and {VISIBLE} names {len(named)}: {','.join(named)}")
    return [",".join(named[first : first + each]) for first in range(0, gpus, each)]
