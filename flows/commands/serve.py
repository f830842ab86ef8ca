"""`synfer serve`: the champion behind an address, as MLflow serves it."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project


def serve(
    model: Annotated[
        str | None,
        typer.Option(help="MLflow URI, such as models:/synfer-classifier/3; by default the champion of the configured model."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5001,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is open to other machines.")] = "127.0.0.1",
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Answer pictures with label, probabilities and the version of the model, until Ctrl-C.

    The same as `mlflow models serve --env-manager local` with the project's database and environment.

    [bold]Examples[/bold]

    synfer serve --model models:/synfer-classifier@challenger

    synfer serve --config smoke

    curl 127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
    -d '{"dataframe_split": {"columns": ["image"], "data": [["BASE64 OF A PNG"]]}}'
    """
    import subprocess
    import sys

    from components.promotion.predict import check_model
    from components.promotion.serve import environment

    workspace, settings = load_project(config, set_)
    uri = model or f"models:/{settings.registration.model_name}@champion"
    check_model(workspace, uri)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-h", host, "-p", str(port)]
    console().print(f"{uri}  http://{host}:{port}/invocations\nCtrl-C ends it")
    try:
        status = subprocess.run(command, env=environment(workspace), cwd=workspace.root, check=False).returncode
    except KeyboardInterrupt:
        return
    raise typer.Exit(status)
