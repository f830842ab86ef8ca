"""`synfer ui`: MLflow and Prefect in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.project import console, load_project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def ui(
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow.")] = 5000,
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect.")] = 4200,
) -> None:
    """Serve runs and models (MLflow) and flow runs (Prefect) until Ctrl-C.

    [bold]Examples[/bold]

    synfer ui

    synfer ui --mlflow-port 5001 --prefect-port 4201
    """
    import os
    import sys

    from components.tracking import connect, server_environment
    from flows.prefect_home import use_project_home
    from flows.services import check_port

    workspace, _ = load_project()
    for port, name in ((mlflow_port, "mlflow"), (prefect_port, "prefect")):
        check_port(port, name)
    use_project_home(workspace.root)
    connect(workspace)
    mlflow = ["mlflow", "server", "--workers", "1", "--port", str(mlflow_port)]
    prefect = ["prefect", "server", "start", "--port", str(prefect_port)]
    environment = {**os.environ, **server_environment(workspace)}
    console().print(f"MLflow   http://127.0.0.1:{mlflow_port}\nPrefect  http://127.0.0.1:{prefect_port}\nCtrl-C ends both")
    ended = _until_one_ends([[sys.executable, "-m", *command] for command in (mlflow, prefect)], workspace.root, environment)
    if ended is not None:
        console().print(f"{('MLflow', 'Prefect')[ended]}'s server has ended, so the other one was ended too")
        raise typer.Exit(1)


def _until_one_ends(commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str]) -> int | None:
    """Run programs together until one ends, and end the others; returns its place, or None after Ctrl-C or SIGTERM."""
    import signal
    import subprocess
    import time

    signals: list[int] = []  # noted and not raised: an exception while a server starts would lose that server
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: signals.append(received))
    servers: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            servers.append(subprocess.Popen(command, cwd=folder, env=dict(environment)))
        while not signals and all(server.poll() is None for server in servers):
            time.sleep(0.2)
        return None if signals else next(place for place, server in enumerate(servers) if server.returncode is not None)
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()
