"""`synfer up` for real: a deployed run that fails is told, nothing tells a password, and after `synfer down` nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

SECRET = "verysecret"
CODE = ("flows", "components", "synfer", "configs", "params.yaml", "prefect.yaml", "automations.yaml")
IGNORED = (".gitignore", "mlruns/.gitignore")  # git reads no links to these


@dataclass
class Machine:
    """A project with a set-up of its own: its folder, its environment, what its commands printed, the notices that came."""

    root: Path
    environment: dict[str, str]
    printed: list[str] = field(default_factory=list)
    notices: list[dict[str, str]] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)

    def synfer(self, *arguments: str, place: str = ".") -> str:
        """Run a command; what it printed."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        done = subprocess.run(command, cwd=self.root / place, env=self.environment, capture_output=True, text=True)
        self.printed.append(done.stdout + done.stderr)
        return self.printed[-1]

    def processes(self) -> list[psutil.Process]:
        """Every process that was started here, told by its environment."""
        mark, found = self.environment["SYNFER_NOTIFY_URL"], []
        for process in psutil.process_iter():
            try:
                found += [process] if process.environ().get("SYNFER_NOTIFY_URL") == mark else []
            except psutil.Error:
                continue  # of other users, or gone meanwhile
        return found

    def status(self) -> list[str]:
        """What git sees of the folder, ignored files too."""
        command = ["git", "status", "--porcelain", "--ignored", "--untracked-files=all"]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout.splitlines()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def machine(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A project of links to this one's code, whose databases and address for notices hold a secret; that address answers with an error."""
    project, scratch, shared = (tmp_path_factory.mktemp(name) for name in ("project", "scratch", SECRET))
    for name in CODE:
        (project / name).symlink_to(root / name)
    for name in ("notes", "mlruns"):
        (project / name).mkdir()
    for name in IGNORED:
        shutil.copy(root / name, project / name)
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SYNFER_", "MLFLOW_"))}
    machine = Machine(project, kept)

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            machine.notices.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500)
            self.end_headers()
            machine.came.set()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    machine.environment |= {
        "PYTHONPATH": str(root), "TMPDIR": str(scratch), "PWD": str(root), "OMP_NUM_THREADS": "1", "COLUMNS": "200",
        "SYNFER_NOTIFY_URL": f"http://127.0.0.1:{server.server_port}/{SECRET}",
        "SYNFER_MLFLOW_URI": f"sqlite:///{shared}/mlflow.db",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{shared}/prefect.db",
    }  # fmt: skip
    yield machine
    machine.synfer("down")
    server.shutdown()


def test_a_taken_port_leaves_nothing(machine: Machine) -> None:
    before = machine.status()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = machine.synfer("up", "--mlflow-port", str(port), "--prefect-port", str(free_port()), "--gpus", "0")
    assert told.splitlines()[-1] == f"synfer: port {port} is taken, and mlflow wants it; stop what listens there or choose another port"
    assert machine.status() == before
    assert machine.processes() == []


def test_up_runs_what_is_asked_tells_failures_and_down_leaves_nothing(machine: Machine) -> None:
    before, port = machine.status(), free_port()
    options = ("--prefect-port", str(port), "--mlflow-port", str(free_port()), "--gpus", "0")
    told = machine.synfer("up", *options, place="notes")
    assert "notices go to the address in SYNFER_NOTIFY_URL" in told, told
    assert f"export PREFECT_API_URL=http://127.0.0.1:{port}/api" in told
    assert machine.synfer("up", *options).count("(ran already)") == 3
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}), get_client(sync_client=True) as client:
        run = run_deployment("pipeline/pipeline", parameters={"start": "registration", "overlays": ["smoke"]}, timeout=0)
        assert machine.came.wait(timeout=1200)
        commands = [" ".join(process.cmdline()) for process in machine.processes()]
        failed = client.read_flow_run(run.id)
        names = [entry.name for entry in client.read_automations()]
        logs = [entry.message for entry in client.read_logs()]
    assert failed.state is not None
    assert failed.state.is_failed()
    assert machine.notices[0]["title"] == "pipeline / smoke from registration: Failed"
    assert str(run.id) in machine.notices[0]["message"]
    assert {"synfer run failed", "synfer run never started", "synfer release published", "synfer model promoted"} < set(names)
    assert len(names) == len(set(names)), "a second call makes none again"
    assert machine.synfer("down") == "stopped: worker-cpu, mlflow, prefect\n"
    assert machine.synfer("down") == "nothing was running\n"
    assert machine.processes() == []
    new = {line.split("/")[0] for line in set(machine.status()) - set(before)}
    assert new == {"!! .prefect", "!! mlruns"}
    left = Path(machine.environment["TMPDIR"]).iterdir()
    assert [path.name for path in left if not path.name.startswith("torchinductor_")] == [], "that one every import of torch makes"
    assert len(commands) >= 5, "servers, MLflow's child, a worker, its run"
    assert SECRET not in "\n".join([*commands, *logs, *machine.printed])
    kept = [path for folder in (machine.root, *machine.root.parent.glob(f"{SECRET}*")) for path in folder.rglob("*") if path.is_file()]
    assert {"prefect.db", "mlflow.db", "services.json"} - {path.name for path in kept} == {"services.json"}
    assert [path.name for path in kept if SECRET.encode() in path.read_bytes()] == []
