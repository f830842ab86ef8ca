"""A PostgreSQL server of the tests' own, from the system's programs."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address (user@host:port) of a PostgreSQL server with the databases `mlflow` and `prefect`."""
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt install postgresql)")
    with running_postgres(tmp_path_factory.mktemp("postgres"), found, ("mlflow", "prefect")) as address:
        yield address


def programs() -> Path | None:
    """Folder of `initdb` and `pg_ctl`, if PostgreSQL is installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    return Path(found).parent if found else debian[-1] if debian else None


@contextmanager
def running_postgres(folder: Path, bin_: Path, databases: tuple[str, ...]) -> Iterator[str]:
    """Address (user@host:port) of a running server with these databases; PostgreSQL refuses to run as root, hence the system's user."""
    as_user: list[str] = []
    if os.geteuid() == 0:
        as_user = ["runuser", "-u", "postgres", "--"]
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        for parent in folder.parents[:3]:  # pytest's folders are closed to other users
            parent.chmod(parent.stat().st_mode | 0o711)

    def run(*command: str) -> None:
        done = subprocess.run([*as_user, *command], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, log = str(folder / "data"), str(folder / "log")
    run(str(bin_ / "initdb"), "-D", data, "-U", "synfer", "-A", "trust", "--no-sync")
    run(str(bin_ / "pg_ctl"), "-D", data, "-l", log, "-w", "-o", f"-p {port} -k {folder} -h 127.0.0.1 -F", "start")
    try:
        engine = create_engine(f"postgresql+psycopg2://synfer@127.0.0.1:{port}/postgres", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for database in databases:
                connection.execute(text(f"create database {database}"))
        engine.dispose()
        yield f"synfer@127.0.0.1:{port}"
    finally:
        run(str(bin_ / "pg_ctl"), "-D", data, "-w", "-m", "fast", "stop")
