"""Silence and offline, in one place: environment variables that must be set before the packages they speak to are imported."""

import os
from pathlib import Path

_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}


def prepare(root: Path | None = None) -> None:
    """Switch telemetry off and hubs offline unless the user has said otherwise; with `root`, keep Prefect's home inside the project."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if root is not None:
        os.environ.setdefault("PREFECT_HOME", str(root / ".prefect"))
