"""One code path for many images: a stage names its shards and one worker for any of them; who calls it is the configuration's choice.

A worker writes the file of a shard whole or not at all, so that the files say what is done: a rerun skips them, with any executor and
any number of actors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from tqdm import tqdm

from components.device import torch_device
from synfer.config import Common, Sharded
from synfer.errors import SynferError

Advance = Callable[[int], None]
"""Told how many images were just finished, for the progress bar."""


class ExecutorError(SynferError):
    """An executor that is not installed, a cluster that is not there or too small, or an actor that died again and again."""


class Shard(Protocol):
    """Some images of a stage and the file that holds what is made of them; it travels to an actor by pickle."""

    @property
    def path(self) -> Path:
        """The file; where it is, the shard is finished."""
        ...

    def __len__(self) -> int: ...


S = TypeVar("S", bound=Shard, contravariant=True)


class Worker(Protocol[S]):
    """Makes the file of a shard. It travels to an actor by pickle, so its networks are loaded at the first shard: see `Portable`."""

    def __call__(self, shard: S, advance: Advance) -> None: ...


@dataclass(frozen=True)
class Portable:
    """A worker that travels as its fields alone; networks that its cached properties have loaded stay where they are."""

    def __getstate__(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Actors:
    """Actors of Ray: how many, GPUs of each (0 for the CPU), torch threads of each, address of the cluster (None: started here)."""

    count: int
    gpus: float
    threads: int
    address: str | None


def actors_of(section: Sharded, common: Common) -> Actors | None:
    """The actors that a stage's section asks for, None for this process.

    An actor has as many threads as this process, for another number may round the last bit of a pixel differently. `auto` is a GPU for
    each where `common.device` is one here. Raises DeviceError on a device that is not here.
    """
    if section.executor == "local":
        return None
    gpus = section.gpus_per_actor
    if gpus == "auto":
        gpus = 1.0 if torch_device(common.device).type == "cuda" else 0.0
    return Actors(section.actors, gpus, common.threads or torch.get_num_threads(), section.ray_address)


def device_of(actors: Actors | None, common: Common) -> str:
    """The device on which a worker computes: the configured one in this process, in an actor the GPU that Ray gives it, or the CPU."""
    if actors is None:
        return common.device
    return "cuda" if actors.gpus else "cpu"


def run_shards(work: Worker[S], shards: Sequence[S], actors: Actors | None, *, title: str, unit: str = "face") -> None:
    """Work off the shards whose file is not there; an error of a worker is raised here, and shards that are finished stay.

    Raises ExecutorError where Ray is asked for and is not installed, not reached or too small.
    """
    missing = [shard for shard in shards if not shard.path.is_file()]
    with tqdm(total=sum(map(len, shards)), desc=title, unit=unit) as bar:
        bar.update(sum(map(len, shards)) - sum(map(len, missing)))
        if actors is None:
            for shard in missing:
                work(shard, bar.update)
        elif missing:
            from components.executors.ray_data import run_on_ray  # imports Ray

            run_on_ray(work, missing, actors, advance=bar.update)
