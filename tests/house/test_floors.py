"""The floors of the house: imports point down, a tool has one home, an expected error has one base."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from synfer.errors import SynferError


def test_import_contracts(root: Path) -> None:
    """import-linter's contracts of pyproject.toml; the one on the library is exhaustive, so that a new module needs a floor."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["synfer", "components"])
def test_every_error_of_ours_is_told_in_one_line(package: str) -> None:
    strangers = []
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        members = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        ours = [kind for _, kind in members if kind.__module__ == module.name and issubclass(kind, Exception)]
        strangers += [f"{module.name}.{kind.__name__}" for kind in ours if not issubclass(kind, SynferError)]
    assert strangers == []


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "pandas", "prefect", "mlflow", "matplotlib", "diffusers", "great_expectations", "pydantic", "numpy"}
    code = f"import sys; import flows.cli; print(sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_telemetry_is_off_and_hubs_are_offline(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from flows.prefect_home import use_project_home; home = pathlib.Path.cwd(); use_project_home(home)\n"
        "from prefect.settings import get_current_settings; settings = get_current_settings()\n"
        "print(dict(os.environ)); print(settings.server.analytics_enabled, settings.home == home / '.prefect')"
    )
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=bare)
    variables, settings = done.stdout.strip().splitlines()
    for setting in ("'DO_NOT_TRACK': 'true'", "'MLFLOW_DISABLE_TELEMETRY': 'true'", "'DVC_NO_ANALYTICS': '1'", "'HF_HUB_OFFLINE': '1'"):
        assert setting in variables
    assert "'GX_ANALYTICS_ENABLED': 'false'" in variables
    assert settings == "False True"
