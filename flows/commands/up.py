"""`synfer up` and `synfer down`: everything that a team's machine runs, started and stopped together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.project import console, load_project, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from components.workspace import Workspace
    from flows.services import Service, Services

PREFECT_PORT, MLFLOW_PORT = 4200, 5000


def up(
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect.")] = PREFECT_PORT,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow.")] = MLFLOW_PORT,
    gpus: Annotated[int | None, typer.Option(help="GPUs that flows may use; by default all that PyTorch sees.", min=0)] = None,
    gpus_per_job: Annotated[int, typer.Option(help="GPUs that a job of pool gpu has for itself.", min=1)] = 1,
) -> None:
    """Start Prefect, its work pools, deployments and automations, workers and MLflow, and print their addresses.

    What runs already stays, what has ended is started again, deployments are renewed. Where PREFECT_API_URL names a server, that one is
    used. Notices about failed runs go to SYNFER_NOTIFY_URL. `synfer down` stops what this command has started. Logs are in .prefect/log.

    [bold]Examples[/bold]

    synfer up

    synfer up --gpus 4 --gpus-per-job 2
    """
    import os

    from flows.prefect_home import use_project_home

    workspace, _ = load_project()
    asked = os.environ.get("PREFECT_API_URL", "")
    use_project_home(workspace.root)
    from flows.automations import notify_url
    from flows.gpus import shares
    from flows.services import Services

    services, url = Services(workspace.root), notify_url()
    gpu_shares = shares(_gpus() if gpus is None else gpus, gpus_per_job)
    with services.alone():
        there = _tell_ended(services, workspace.root)
        elsewhere = _elsewhere(services, asked, prefect_port)
        try:
            api = _start_servers(services, workspace, elsewhere, prefect_port, mlflow_port)
            pools = _prepare(workspace.root, api, url, gpu_jobs=len(gpu_shares), sole=not elsewhere)
            _start_workers(services, api, pools, gpu_shares)
        except BaseException:
            services.stop(keep=there)
            raise
    for service in services.running():
        place = service.address or shown(Path(service.log), workspace.root)
        console().print(f"  {service.name:<12} {place}{'   (ran already)' if service in there else ''}")
    console().print(f"synfer down stops it; for Prefect's own commands: export PREFECT_API_URL={api}")


def down() -> None:
    """Stop what `synfer up` has started, with the flow runs of its workers; databases and logs stay.

    [bold]Examples[/bold]

    synfer down
    """
    from flows.services import Services

    workspace, _ = load_project()
    services = Services(workspace.root)
    with services.alone():
        stopped = services.stop()
    console().print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def _tell_ended(services: Services, root: Path) -> list[Service]:
    """Tell what has ended since it was started; returns what runs."""
    for service in services.ended():
        console().print(f"{service.name} has ended since it was started; its log is {shown(Path(service.log), root)}")
    return services.running()


def _elsewhere(services: Services, asked: str, prefect_port: int) -> str:
    """Address of the API of a Prefect server that is not the project's: PREFECT_API_URL as `asked`, or "" where that names our own.

    The last line of `synfer up` tells people to set it. Raises ServiceError where it names a server that does not answer.
    """
    from urllib.parse import urlsplit

    from flows.services import ServiceError, answers

    place = urlsplit(asked)
    local = place.hostname in ("127.0.0.1", "localhost", "::1")
    ours = any(local and urlsplit(known.address).port == place.port for known in services.running() if known.name == "prefect")
    if not asked or ours:
        return ""
    if any(answers(f"{asked.rstrip('/')}/health") for _ in range(3)):  # a busy server may need more than the five seconds of one look
        return asked
    if local and place.port == prefect_port:
        return ""
    raise ServiceError(f"nothing answers at {place.hostname}:{place.port}, which PREFECT_API_URL names; unset it to start a server here")


def _start_servers(services: Services, workspace: Workspace, elsewhere: str, prefect_port: int, mlflow_port: int) -> str:
    """Start Prefect's server, unless it is elsewhere, and MLflow's, unless the runs go to one; returns the address of Prefect's API."""
    from components.tracking import connect, server_environment, store_uri
    from flows.services import check_port

    mlflow_here = not store_uri(workspace).startswith("http")
    known = {service.name for service in services.running()}
    for name, port, here in (("prefect", prefect_port, not elsewhere), ("mlflow", mlflow_port, mlflow_here)):
        if here and name not in known:
            check_port(port, name)  # before the first of them starts: that takes half a minute
    connect(workspace)
    api = elsewhere or f"http://127.0.0.1:{prefect_port}/api"
    if not elsewhere:
        console().print("Prefect's server ...")
        prefect = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect_port)]
        service = services.start("prefect", prefect, environment={"PREFECT_API_URL": api}, port=prefect_port, health="/api/health")
        api = f"{service.address}/api"  # of one that ran already, whatever port is asked for now
    if mlflow_here:
        console().print("MLflow's server ...")
        mlflow = ["mlflow", "server", "--workers", "1", "--port", str(mlflow_port)]
        # Jobs of its own (of traces, of language models) that nobody here asks for cost half a minute of start and a slow stop.
        environment = {**server_environment(workspace), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        services.start("mlflow", mlflow, environment=environment, port=mlflow_port, health="/health")
    return api


def _prepare(root: Path, api: str, url: str, *, gpu_jobs: int, sole: bool) -> list[str]:
    """Tell the server its work pools, deployments and automations; returns the pools that want workers of this machine."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import automations, work_pools, zombies

    console().print("work pools, deployments and automations ...")
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        pools = work_pools.set_pools(client, gpu_jobs=gpu_jobs, sole=sole)
        switches = work_pools.switches(client)
        _prefect(root, {"PREFECT_API_URL": api}, "deploy", "--all")
        work_pools.set_switches(client, switches)
        automations.apply_automations(client, root / automations.FILE, url, sole=sole)
        zombies.install()
    console().print(f"notices go to the address in {automations.NOTIFY_URL}" if url else f"no notices: {automations.NOTIFY_URL} is not set")
    return pools


def _start_workers(services: Services, api: str, pools: Sequence[str], gpu_shares: Sequence[str]) -> None:
    """A worker for the CPU, which sees no GPU that a job of pool gpu may have, and one for every share of the GPUs."""
    import socket

    from flows.gpus import VISIBLE
    from flows.work_pools import CPU, GPU

    started: list[tuple[str, str, Service]] = []
    wanted = [(CPU, CPU, {VISIBLE: ""} if gpu_shares else {})]
    wanted += [(GPU, f"{GPU}-{number}", {VISIBLE: share}) for number, share in enumerate(gpu_shares)]
    for pool, name, sees in wanted:
        if pool in pools:
            worker = ["prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", f"{socket.gethostname()}-{name}"]
            jobs = ["--limit", "1"] if pool == GPU else []
            # A line a minute of each progress bar: nobody watches a worker's log as it grows.
            environment = {"PREFECT_API_URL": api, "TQDM_MININTERVAL": "60", **sees}
            started.append((pool, worker[-1], services.start(f"worker-{name}", [*worker, *jobs], environment=environment)))
    _await_workers(services, api, started)


def _await_workers(services: Services, api: str, started: Sequence[tuple[str, str, Service]]) -> None:
    """Wait until the server has heard of every worker (pool, name, program) since its start; raises ServiceError where one has ended."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    console().print("workers ...")
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        for pool, name, service in started:

            def heard(pool: str = pool, name: str = name, since: float = service.started) -> bool:
                workers = client.read_workers_for_work_pool(pool)
                return any(w.name == name and w.last_heartbeat_time and w.last_heartbeat_time.timestamp() > since for w in workers)

            services.wait(service, heard)


def _prefect(root: Path, environment: Mapping[str, str], *command: str) -> None:
    """One call of Prefect's own command line."""
    import os
    import subprocess
    import sys

    from flows.services import ServiceError

    place = {"PWD": str(root)}  # prefect.yaml tells it to the workers; that of the shell may be a folder inside the project
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *command], cwd=root, env={**os.environ, **environment, **place},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ServiceError(f"prefect {' '.join(command)} failed: {' '.join((done.stdout + done.stderr).split())[-400:]}")


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
