"""`synfer ui`: MLflow and Prefect in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.project import console, load_project


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
    import subprocess
    import sys

    from components.tracking import connect, server_environment
    from flows.prefect_home import use_project_home

    workspace, _ = load_project()
    use_project_home(workspace.root)
    connect(workspace)
    mlflow = ["mlflow", "server", "--workers", "1", "--port", str(mlflow_port)]
    prefect = ["prefect", "server", "start", "--port", str(prefect_port)]
    environment = {**os.environ, **server_environment(workspace)}
    servers = [subprocess.Popen([sys.executable, "-m", *command], cwd=workspace.root, env=environment) for command in (mlflow, prefect)]
    console().print(f"MLflow   http://127.0.0.1:{mlflow_port}\nPrefect  http://127.0.0.1:{prefect_port}\nCtrl-C ends both")
    try:
        for server in servers:
            server.wait()
    except KeyboardInterrupt:
        for server in servers:
            server.terminate()
