"""Faults: ``python -m benchmarks.faults`` kills a worker at random moments, again and again, and compares what comes out in the end.

A real server of Prefect, a work pool, a `prefect worker`, and the deployment `pipeline` in a copy of the project. While stage synthesis
of one flow run draws, the worker and the flow run's process get SIGKILL, after a random number of new shards and a random part of the next
one. Then a new worker is started and nothing else is done: the automations of `flows.zombies` must find the dead run and put it in the
queue again, and the pipeline must go on where it was. Another copy runs the same undisturbed. The release must be the same, byte by byte,
and the model registered once. Prints a table and, as its last line, JSON; the status is 1 if anything differs.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.program import run_study
from components.journal import NAME as JOURNAL
from components.workspace import Workspace
from flows.prefect_home import PREFECT_SETTINGS
from flows.services import Service, Services
from synfer.environment import prepare
from synfer.errors import SynferError

_MOST_SHARDS = 6  # new shards between two kills
_PATIENCE = 600.0  # seconds for anything that must happen
_RELEASE, _MODEL = "smoke", "synfer-smoke"


class FaultsError(SynferError):
    """Something that should have happened did not; the message says what, and where the logs are."""


@dataclass
class Trial:
    """A copy of the project with a server of its own, what is run there, and what was seen."""

    root: Path
    overrides: list[str]
    services: Services
    environment: dict[str, str]
    run: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def shards(self) -> int:
        """Shards that stage synthesis has finished and not yet handed over."""
        return len(list((self.root / "artifacts" / ".synthesis.partial").glob("images-*.parquet")))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    kills: Annotated[int, typer.Option(min=1, help="How often the worker is killed.")] = 20,
    shards: Annotated[int, typer.Option(min=1, help="Shards of the synthesis, of two faces each.")] = 170,
    silence: Annotated[int, typer.Option(min=31, help="Seconds without a heartbeat after which a run counts as dead.")] = 45,
    seed: Annotated[int, typer.Option(help="Other moments.")] = 0,
    keep: Annotated[Path | None, typer.Option(help="Folder for the two projects; by default a temporary one that is removed.")] = None,
) -> None:
    """Kill a worker at random moments of one synthesis job, and compare with an undisturbed run."""
    if kills * (_MOST_SHARDS + 2) > shards:
        raise FaultsError(f"{kills} kills need at least {kills * (_MOST_SHARDS + 2)} shards; see --shards")
    source = Workspace.find(Path.cwd()).root
    overrides = [f"synthesis.images={2 * shards}", "synthesis.batch_size=2", "synthesis.shard_images=2", "rectification.batch_size=32"]
    with _folder(keep) as folder:
        calm = copy_project(source, folder / "undisturbed")
        command = [sys.executable, "-m", "flows.cli", "flow", "pipeline", "--config", "smoke"]
        started = time.monotonic()
        _call(command + [part for value in overrides for part in ("--set", value)], calm, _environment(calm))
        undisturbed = time.monotonic() - started
        with running_trial(copy_project(source, folder / "disturbed"), overrides, silence) as trial:
            disturb(trial, kills, random.Random(seed))
        found = compare(calm, trial.root, kills) | {"undisturbed_seconds": round(undisturbed), "shards": shards, "silence": silence}
        _report(trial.rows, found)
    if found["different_files"] or found["versions"] != 1:
        raise FaultsError("the release differs, or the model is not registered exactly once; see the table")


# --- a project with a server --------------------------------------------------------------------------------------------------------


def copy_project(source: Path, target: Path) -> Path:
    """Copy what git knows of the project, and the embedded corpus; the copy has no releases and no history."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, listed):
        if (source / name).is_file() and not name.startswith(("tests/", ".dvc/seed/")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
    shutil.copytree(source / "data" / "faces", target / "data" / "faces", dirs_exist_ok=True)
    registry = yaml.safe_load((source / "data.dvc").read_text())
    registry["outs"] = [out for out in registry["outs"] if out["path"] == "data/faces"]
    (target / "data.dvc").write_text(yaml.safe_dump(registry))
    subprocess.run(["git", "init", "--quiet"], cwd=target, check=True)
    return target


@contextmanager
def running_trial(root: Path, overrides: list[str], silence: int) -> Iterator[Trial]:
    """A project whose server knows the work pool, the deployment and the automations."""
    port = _free_port()
    environment = _environment(root) | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    trial = Trial(root, overrides, Services(root), environment)
    try:
        server = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        trial.services.start("prefect", server, environment=environment, port=port, health="/api/health")
        prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
        _call([*prefect, "work-pool", "create", "cpu", "--type", "process"], root, environment)
        _call([*prefect, "work-pool", "set-concurrency-limit", "cpu", "1"], root, environment)
        _call([*prefect, "deploy", "--name", "pipeline"], root, environment)
        install = "import datetime, sys; from flows.zombies import automations, install; "
        install += f"install(automations(datetime.timedelta(seconds={silence})))"
        _call([sys.executable, "-c", install], root, environment)
        yield trial
    finally:
        trial.services.stop()


def start_worker(trial: Trial) -> Service:
    """A worker of the pool, polling every two seconds."""
    worker = ["prefect", "worker", "start", "--pool", "cpu", "--type", "process", "--name", f"worker-{len(trial.rows)}"]
    return trial.services.start("worker", worker, environment=trial.environment | {"PREFECT_WORKER_QUERY_SECONDS": "2"})


def kill(service: Service) -> int:
    """SIGKILL for a worker and everything that it has started; returns how many processes that were."""
    worker = service.process()
    processes = [] if worker is None else [worker, *worker.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=20)
    return len(processes)


# --- the trial ----------------------------------------------------------------------------------------------------------------------


def disturb(trial: Trial, kills: int, rng: random.Random) -> None:
    """Kill the worker `kills` times while synthesis draws, then let a last one finish the run."""
    parameters = {"overlays": ["smoke"], "overrides": trial.overrides}
    command = [sys.executable, "-m", "prefect", "deployment", "run", "pipeline/pipeline", "--param", f"overlays={json.dumps(['smoke'])}"]
    _call([*command, "--param", f"overrides={json.dumps(parameters['overrides'])}"], trial.root, trial.environment)
    killed = time.monotonic()
    for number in range(1, kills + 1):
        worker = start_worker(trial)
        begun = _begun(trial.root)
        _wait(lambda begun=begun: _begun(trial.root) not in (begun, None), trial, "synthesis did not begin")  # type: ignore[misc]
        waited, before, wanted = time.monotonic() - killed, trial.shards, rng.randint(0, _MOST_SHARDS)
        _wait(lambda before=before, wanted=wanted: trial.shards - before >= wanted, trial, "no shard came", pause=0.002)  # type: ignore[misc]
        time.sleep(rng.uniform(0.0, 0.3))
        processes = kill(worker)
        killed = time.monotonic()
        row = {"kill": number, "begun_after": round(waited, 1), "processes": processes, "shards_before": before, "shards": trial.shards}
        trial.rows.append(row)
        print(json.dumps(row), file=sys.stderr)
    start_worker(trial)
    _wait(lambda: _state(trial) in ("COMPLETED", "FAILED", "CANCELLED"), trial, "the run did not end", pause=2.0)
    if _state(trial) != "COMPLETED":
        raise FaultsError(f"the run ended as {_state(trial)}; its logs are in {trial.root / '.prefect'}")


def _begun(root: Path) -> tuple[int, int] | None:
    """When the journal says that synthesis was begun the last time, as (inode, time); None while another stage is at work."""
    path = root / "artifacts" / JOURNAL
    try:
        begun, status = json.loads(path.read_text(encoding="utf-8"))["begun"], path.stat()
    except (FileNotFoundError, ValueError):
        return None
    return (status.st_ino, status.st_mtime_ns) if begun.get("stage") == "synthesis" else None


def _state(trial: Trial) -> str:
    """State of the only flow run of the pipeline, by Prefect's server."""
    import urllib.request

    address = f"{trial.environment['PREFECT_API_URL']}/flow_runs/filter"
    request = urllib.request.Request(address, b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        runs = json.loads(answer.read())
    if len(runs) != 1:
        raise FaultsError(f"the server has {len(runs)} flow runs, not one")
    return str(runs[0]["state_type"])


def compare(calm: Path, disturbed: Path, kills: int) -> dict[str, Any]:
    """What is the same in both projects, file by file and version by version."""
    folders = [project / "data" / "synthetic" / _RELEASE for project in (calm, disturbed)]
    names = sorted({path.relative_to(folder).as_posix() for folder in folders for path in folder.rglob("*") if path.is_file()})
    different = [name for name in names if _bytes(folders[0] / name) != _bytes(folders[1] / name)]
    manifests = [
        f"artifacts/{stage}/manifest.parquet"
        for stage in ("synthesis", "rectification")
        if _bytes(calm / "artifacts" / stage / "manifest.parquet") != _bytes(disturbed / "artifacts" / stage / "manifest.parquet")
    ]
    from components.promotion.registry import Registry

    registry = Registry(Workspace(disturbed), _MODEL)
    versions = registry.client.search_model_versions(f"name = '{_MODEL}'")
    unfinished = [path.name for path in (disturbed / "artifacts").glob(".*.partial")]
    return {
        "kills": kills, "release_files": len(names), "different_files": [*different, *manifests], "versions": len(versions),
        "champion": registry.holder("champion"), "unfinished": unfinished,
    }  # fmt: skip


# --- small ------------------------------------------------------------------------------------------------------------------------


def _environment(root: Path) -> dict[str, str]:
    """The environment of a program in a copy: its own Prefect home, one thread, this interpreter first, the copy's own code."""
    prepare()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SYNFER_"))}
    own = {"PREFECT_HOME": str(root / ".prefect"), "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "COLUMNS": "160", "PWD": str(root)}
    return kept | dict(PREFECT_SETTINGS) | own | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def _call(command: list[str], root: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=root, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        raise FaultsError(f"{' '.join(command[1:5])} failed: {(done.stdout + done.stderr)[-500:]}")


def _wait(done: Callable[[], bool], trial: Trial, why: str, *, pause: float = 0.05) -> None:
    until = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > until:
            raise FaultsError(f"{why} in {_PATIENCE:.0f} s; logs are in {trial.root / '.prefect' / 'log'}")
        time.sleep(pause)


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        yield Path(folder)


def _report(rows: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """The table of kills, and the JSON line."""
    table = Table(title="SIGKILL for a worker and its flow run, while synthesis draws", title_justify="left", box=None)
    for title in ("kill", "s until synthesis went on", "shards found", "at the kill"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*(str(row[name]) for name in ("kill", "begun_after", "shards_before", "shards")))
    Console(width=100).print(table)
    print(json.dumps(found))


if __name__ == "__main__":
    run_study(app, "faults")
