"""The servers and workers of a project on one machine: Prefect, its work pools and deployments, workers, MLflow.

`.prefect/services.json` remembers what was started, with the time of its start: a number that the system has given to another process since
is never stopped. `.prefect/log` keeps a log a service of its last start, and of the one before (`NAME.before.log`). Temporary files go to a
folder of their own, to which `.prefect/tmp` leads, so that what a killed run has left can be removed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from synfer.errors import SynferError
from synfer.files import locked, write_json

STATE = "services.json"
_HOST = "127.0.0.1"
_CONSOLE = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO"}  # `flows.prefect_home` keeps Prefect off the terminal; here it is a log
_START, _STOP = 240.0, 20.0  # seconds; a busy laptop needs a minute for the first start of Prefect's server


class ServiceError(SynferError):
    """A port that is taken, or a program that ended at once; the message names the port or the log."""


@dataclass(frozen=True)
class Service:
    """A program that runs: what it is, its process, when that started (seconds since 1970), its address (empty for a worker), its log."""

    name: str
    pid: int
    started: float
    address: str
    log: str

    def process(self) -> psutil.Process | None:
        """The process, if it is still the same one."""
        try:
            found = psutil.Process(self.pid)
            return found if abs(found.create_time() - self.started) < 1.0 and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class Services:
    """What `synfer up` has started in a project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".prefect"

    def alone(self) -> AbstractContextManager[object]:
        """Wait until nobody else starts or stops services of the project."""
        self.folder.mkdir(exist_ok=True)
        return locked(self.folder)

    def running(self) -> list[Service]:
        """The programs that are still there, in the order of their start."""
        return [service for service in self._known() if service.process() is not None]

    def ended(self) -> list[Service]:
        """Programs that were started and are gone, though nobody has stopped them."""
        return [service for service in self._known() if service.process() is None]

    def start(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], port: int = 0, health: str = "") -> Service:
        """Start `python -m command` in a session of its own, unless it runs; with a port, wait until `http://host:port/health` answers.

        Raises ServiceError if the port is taken, or if the program ends before it answers.
        """
        if known := next((service for service in self.running() if service.name == name), None):
            return known
        if port:
            check_port(port, name)
        log = self._new_log(name)
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.root, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                env={**os.environ, **_CONSOLE, "TMPDIR": str(self._temporary()), **environment}, start_new_session=True,
            )  # fmt: skip
        service = Service(
            name, process.pid, psutil.Process(process.pid).create_time(), f"http://{_HOST}:{port}" if port else "", str(log)
        )
        self._write([*(known for known in self._known() if known.name != name), service])
        if port:
            self._wait(service, process, f"{service.address}{health}")
        return service

    def wait(self, service: Service, ready: Callable[[], bool]) -> None:
        """Wait until a program without a port is ready; raises ServiceError if it ends before, or is not ready in four minutes."""
        until = time.monotonic() + _START
        while not ready():
            if service.process() is None or time.monotonic() > until:
                why = "has ended" if service.process() is None else f"was not ready in {_START:.0f} s"
                raise ServiceError(f"{service.name} {why}; its log is {service.log}")
            time.sleep(0.5)

    def stop(self, *, keep: Sequence[Service] = ()) -> list[str]:
        """Stop everything but what to `keep`, the latest first, with all that it has started; returns the names."""
        stopped = [service for service in self.running()[::-1] if service not in keep]
        for service in stopped:
            stop_tree(service)
        if keep:
            self._write(list(keep))
        else:
            (self.folder / STATE).unlink(missing_ok=True)
            self._remove_temporary()
        return [service.name for service in stopped]

    def _known(self) -> list[Service]:
        path = self.folder / STATE
        return [Service(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []

    def _temporary(self) -> Path:
        """Where the programs put temporary files: under the system's folder, for sockets want a short path."""
        link = self.folder / "tmp"
        if not link.is_dir():
            link.unlink(missing_ok=True)  # of a folder that is gone, with all of /tmp for example
            link.symlink_to(tempfile.mkdtemp(prefix="synfer-"))
        return link.resolve()

    def _remove_temporary(self) -> None:
        link = self.folder / "tmp"
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
            link.unlink()

    def _new_log(self, name: str) -> Path:
        """Where a program that starts now writes; what the one before wrote is kept once, for it may say why that one ended."""
        log = self.folder / "log" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_name(f"{name}.before.log"))
        return log

    def _wait(self, service: Service, process: subprocess.Popen[bytes], address: str) -> None:
        until = time.monotonic() + _START
        while not answers(address):
            if process.poll() is not None or time.monotonic() > until:
                why = f"ended with status {process.returncode}" if process.returncode is not None else f"did not answer in {_START:.0f} s"
                raise ServiceError(f"{service.name} {why}; its log is {service.log}")
            time.sleep(0.5)

    def _write(self, services: list[Service]) -> None:
        write_json(self.folder / STATE, [asdict(service) for service in services])


def stop_tree(service: Service) -> None:
    """End a program and its children: asked first, killed after 20 seconds."""
    process = service.process()
    if process is None:
        return
    tree = [process, *process.children(recursive=True)]
    for found in tree:
        _quietly(found.terminate)
    _, alive = psutil.wait_procs(tree, timeout=_STOP)
    for found in alive:
        _quietly(found.kill)
    psutil.wait_procs(alive, timeout=_STOP)


def check_port(port: int, name: str) -> None:
    """Raise ServiceError if something listens on the port."""
    with socket.socket() as probe:
        if probe.connect_ex((_HOST, port)) == 0:
            raise ServiceError(f"port {port} is taken, and {name} wants it; stop what listens there or choose another port")


def answers(address: str) -> bool:
    """Whether an address answers with a status of success."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (OSError, ValueError):  # ValueError: no address at all
        return False


def _quietly(end: Callable[[], object]) -> None:
    with suppress(psutil.NoSuchProcess):
        end()
