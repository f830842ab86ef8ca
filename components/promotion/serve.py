"""What a server of a registered model needs to know of the project."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from components.tracking import store_uri
from components.workspace import Workspace


def environment(workspace: Workspace) -> dict[str, str]:
    """Environment variables: the project's database, whatever `MLFLOW_TRACKING_URI` said, and on the path the programs of this Python.

    MLflow starts one of those by name.
    """
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    return {**os.environ, "MLFLOW_TRACKING_URI": store_uri(workspace), "PATH": path}
