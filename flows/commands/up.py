"""`synfer up` and `synfer down`: everything that a team's machine runs, started and stopped together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.project import console, load_project, shown
from synfer.errors import SynferError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.services import Service, Services

PREFECT_PORT, MLFLOW_PORT = 4200, 5000
_POOLS = ("cpu", "gpu")


def up(
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect.")] = PREFECT_PORT,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow.")] = MLFLOW_PORT,
    gpus: Annotated[int | None, typer.Option(help="GPUs that flows may use; by default all that PyTorch sees.", min=0)] = None,
) -> None:
    """Start Prefect, its work pools, the deployments of prefect.yaml, a worker and MLflow, and print their addresses.

    What runs already stays; where PREFECT_API_URL names a server, that one is used. `synfer down` stops what this command has
    started. Logs are in .prefect/log.

    [bold]Examples[/bold]

    synfer up

    prefect deployment run pipeline/smoke
    """
    import os

    from flows.prefect_home import use_project_home

    workspace, _ = load_project()
    use_project_home(workspace.root)
    from components.tracking import connect, server_environment, store_uri
    from flows.services import Services

    services = Services(workspace.root)
    if found := services.running():
        _tell(found, "runs already; synfer down stops it", workspace.root)
        return
    elsewhere = os.environ.get("PREFECT_API_URL", "")
    api = {"PREFECT_API_URL": elsewhere or f"http://127.0.0.1:{prefect_port}/api"}
    connect(workspace)
    try:
        _start(services, api, prefect_port=0 if elsewhere else prefect_port, gpus=_gpus() if gpus is None else gpus)
        if not store_uri(workspace).startswith("http"):
            mlflow = ["mlflow", "server", "--workers", "1", "--port", str(mlflow_port)]
            services.start("mlflow", mlflow, environment=server_environment(workspace), port=mlflow_port, health="/health")
    except (SynferError, KeyboardInterrupt):
        services.stop()
        raise
    _tell(services.running(), "started; synfer down stops it", workspace.root)


def down() -> None:
    """Stop what `synfer up` has started, with the flow runs of its workers.

    [bold]Examples[/bold]

    synfer down
    """
    from flows.services import Services

    workspace, _ = load_project()
    stopped = Services(workspace.root).stop()
    console().print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def _start(services: Services, api: Mapping[str, str], *, prefect_port: int, gpus: int) -> None:
    """The server, unless it is elsewhere (port 0), then what it must know before a worker may ask."""
    out = console()
    if prefect_port:
        out.print("Prefect's server ...")
        server = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect_port)]
        services.start("prefect", server, environment=api, port=prefect_port, health="/api/health")
    out.print("work pools, limits and deployments ...")
    # Two on the CPU: a run of the pipeline, and beside it the short look at promotions. Runs that write artifacts/ wait for one another.
    for pool, limit in zip(_POOLS, (2, max(1, gpus)), strict=True):
        _prefect(services, api, "work-pool", "create", pool, "--type", "process", "--overwrite")
        _prefect(services, api, "work-pool", "set-concurrency-limit", pool, str(limit))
    _prefect(services, api, "deploy", "--all")
    for pool in _POOLS if gpus else _POOLS[:1]:
        worker = ["prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", f"{pool}-worker"]
        services.start(f"worker-{pool}", worker, environment=api)


def _prefect(services: Services, api: Mapping[str, str], *command: str) -> None:
    """One call of Prefect's own command line."""
    import os
    import subprocess
    import sys

    from flows.services import ServiceError

    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *command], cwd=services.root, env={**os.environ, **api}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ServiceError(f"prefect {' '.join(command)} failed: {' '.join((done.stdout + done.stderr).split())[-400:]}")


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _tell(services: list[Service], state: str, root: Path) -> None:
    for service in services:
        console().print(f"  {service.name:<12} {service.address or shown(Path(service.log), root)}")
    console().print(state)
