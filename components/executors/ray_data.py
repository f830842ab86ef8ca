"""Shards by a pool of actors of Ray Data: every actor loads its networks once, takes shard after shard, and writes their files itself.

What travels is small: rows of a plan to the actors, a count of images back. Ray Data hands a shard to an actor that is free
(back-pressure), starts a dead actor again and repeats its shard. Actors must see the project's folders under the same paths.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import tempfile
import threading
import traceback
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch

from components.executors.shards import Actors, Advance, ExecutorError, S, Worker
from synfer.environment import prepare

_RESTARTS = 4  # of a dead actor, and of the shard that it had; afterwards it is no accident
_ENVIRONMENT = {
    "RAY_worker_niceness": "0",  # else whatever else the machine does comes before the actors
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what goes wrong is an exception
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray warns that it will be the default
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


def run_on_ray(work: Worker[S], shards: Sequence[S], actors: Actors, *, advance: Advance) -> None:
    """Have actors make the files of all `shards`; `advance` is told the images of every finished one.

    An error of a worker is raised as it was in the actor, whose traceback is its note. Raises ExecutorError as `run_shards` does.
    """
    ray = load_ray()
    try:
        with cluster(ray, actors), closing(_outcomes(ray, work, shards, actors)) as outcomes:
            for images, error in outcomes:
                if error:
                    _raise(error)
                advance(images)
    except ray.exceptions.RayError as error:
        raise ExecutorError(f"the actors of Ray gave up: {_first_line(error)}; see docs/scale.md") from error


def load_ray() -> ModuleType:
    """Ray, told to be quiet before it is imported; raises ExecutorError where it is not installed."""
    prepare()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ExecutorError("executor ray needs Ray, which is not installed; bring it with: pip install 'synfer[ray]'") from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


@contextmanager
def cluster(ray: ModuleType, actors: Actors) -> Iterator[None]:
    """A connection to the cluster, or a Ray of this machine for as long as the context lasts; one that the caller has stays as it is."""
    if ray.is_initialized():
        _check_room(ray, actors)
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="synfer-", dir="/tmp"))  # short: Ray's sockets lie below it, and their paths are limited
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        _connect(ray, actors, folder)
        _check_room(ray, actors)
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray has set its own


def _connect(ray: ModuleType, actors: Actors, folder: Path) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if actors.address is None:
        gpus = {} if actors.gpus else {"num_gpus": 0}  # Ray counts them itself
        with _without_first_words():
            ray.init(address="local", num_cpus=actors.count + 1, include_dashboard=False, _temp_dir=str(folder), **gpus, **quiet)
        return
    try:
        with _without_first_words():
            ray.init(address=actors.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ExecutorError(
            f"no Ray cluster answers at ray_address {actors.address!r} ({_first_line(error)}); start one with: ray start --head"
        ) from error


@contextmanager
def _without_first_words() -> Iterator[None]:
    """Nothing on file descriptor 2: Ray's core says there that it was told to be quiet. What goes wrong is an exception all the same."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_room(ray: ModuleType, actors: Actors) -> None:
    """Raise ExecutorError where the actors can never all be placed: Ray would wait for ever."""
    found = ray.cluster_resources()
    for kind, each, wanted in (("GPU", actors.gpus, actors.count * actors.gpus), ("CPU", 1, actors.count)):
        if wanted > found.get(kind, 0):
            has = f"{found.get(kind, 0):g}"
            raise ExecutorError(
                f"{actors.count} actors of {each:g} {kind} need {wanted:g} {kind}s, and Ray has {has}; ask for fewer actors"
            )


def _outcomes(ray: ModuleType, work: Worker[S], shards: Sequence[S], actors: Actors) -> Generator[tuple[int, bytes], None, None]:
    """Of every shard as it is finished: its images, and its error, packed, or nothing."""
    data = ray.data
    data.DataContext.get_current().enable_progress_bars = False
    rows = data.from_items([{"shard": pickle.dumps(shard)} for shard in shards], override_num_blocks=len(shards))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the limits of restarts will have to be told in another way some day
        done = rows.map_batches(
            _Actor,
            fn_constructor_args=(ray.cloudpickle.dumps(work), actors.threads),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(actors.count, len(shards)), max_tasks_in_flight_per_actor=2),
            num_cpus=1,
            num_gpus=actors.gpus or None,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
        )
    for row in done.iter_rows():
        yield int(row["images"]), bytes(row["error"])


class _Actor:
    """Holds one worker with its networks; every call is a batch of one shard."""

    def __init__(self, pickled: bytes, threads: int) -> None:
        prepare()
        torch.set_num_threads(threads)
        self.work: Worker[Any] = pickle.loads(pickled)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        shard, error = pickle.loads(batch["shard"][0]), b""
        try:
            self.work(shard, _nothing)
        except Exception as caught:
            error = _packed(caught)
        return {"images": [len(shard)], "error": [error]}


def _nothing(images: int) -> None:
    """The bar is in another process, which is told when the shard is finished."""


# --- errors that cross processes --------------------------------------------------------------------------------------------------


def _packed(error: Exception) -> bytes:
    """The error as it is, with its traceback as text; one that pickle cannot build again is built from what it holds."""
    trace = traceback.format_exc()
    for make in (lambda: (error, trace), lambda: (_Parts(type(error), error.args, vars(error)), trace)):
        try:
            packed = pickle.dumps(make())
            pickle.loads(packed)
        except Exception:
            continue
        return packed
    return pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), trace))


@dataclass(frozen=True)
class _Parts:
    """An error whose class wants other arguments than those that its instances keep."""

    kind: type[Exception]
    args: tuple[Any, ...]
    state: dict[str, Any]

    def error(self) -> Exception:
        built = self.kind.__new__(self.kind, *self.args)
        built.__dict__.update(self.state)
        return built


def _raise(packed: bytes) -> NoReturn:
    error, trace = pickle.loads(packed)
    error = error.error() if isinstance(error, _Parts) else error
    error.add_note(f"In the actor:\n{trace}")
    raise error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
