"""What tests share: one torch thread, a project of their own, a home of Prefect for every process that runs tests."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
if "PREFECT_HOME" not in os.environ:  # else two processes of pytest-xdist would share the user's own database
    os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="synfer-prefect-")
    atexit.register(shutil.rmtree, os.environ["PREFECT_HOME"], ignore_errors=True)

import pytest
import torch

from components.workspace import Workspace
from synfer.environment import prepare

prepare()
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty project with the repository's configuration."""
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    return Workspace(tmp_path)


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without experiments; making one takes seconds, copying it nothing."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = tmp_path_factory.mktemp("mlflow")
    SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", str(folder))
    return folder / "mlflow.db"


@pytest.fixture
def tracked_workspace(workspace: Workspace, new_database: Path) -> Workspace:
    """An empty project whose MLflow database is made already."""
    workspace.mlruns.mkdir()
    shutil.copy(new_database, workspace.mlruns / "mlflow.db")
    return workspace


@pytest.fixture
def in_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The same, as the current folder."""
    monkeypatch.chdir(workspace.root)
    return workspace
