"""What git tracks: no path of a machine, no registry host, a seed remote that stays small and binary."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SEED_LIMIT = 12_000_000  # bytes; the embedded corpus has six to seven million
FOREIGN = ("pypi.org", "pythonhosted.org", "extra-index-url", "/home/", "/Users/")


@pytest.fixture(scope="module")
def tracked(root: Path) -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    return [root / name for name in done.stdout.split("\0") if name and (root / name).is_file()]


def test_no_machine_path_and_no_registry_host(root: Path, tracked: list[Path]) -> None:
    marks = [*FOREIGN, str(root) + "/", str(Path.home()) + "/"]
    found = []
    for path in tracked:
        data = path.read_bytes()
        if path != Path(__file__) and b"\0" not in data[:4096]:
            found += [f"{path.relative_to(root)}: {mark}" for mark in marks if mark.encode() in data]
    assert found == []


def test_runs_stay_on_their_machine(root: Path, tracked: list[Path]) -> None:
    assert sorted(path.name for path in tracked if path.is_relative_to(root / "mlruns")) == [".gitignore", "README.md"]


def test_seed_remote_is_small_and_never_converted(root: Path, tracked: list[Path]) -> None:
    seed = [path for path in tracked if path.is_relative_to(root / ".dvc" / "seed")]
    assert seed, "the embedded corpus is missing from the repository"
    assert sum(path.stat().st_size for path in seed) < SEED_LIMIT
    done = subprocess.run(["git", "check-attr", "text", "--", str(seed[0])], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("text: unset")


def test_made_things_are_ignored(root: Path) -> None:
    made = ["artifacts/x", "data/faces/x", "reports/report.html", "reports/gx/x", "reports/studies/x.html", "samples/x.png"]
    made += [".prefect/x", ".venv/x", "mlruns/mlflow.db"]
    made += ["labels.parquet", "labels.html", ".labels.parquet.partial/x", "cleanlab/x", "missing.csv"]
    made += ["evaluated/x", ".evaluated.unfinished/x", "models/x", "downloads/x"]
    done = subprocess.run(["git", "check-ignore", *made], cwd=root, capture_output=True, text=True)
    assert done.stdout.split() == made
    tracked = ["reports/metrics.json", "reports/settings.json", "reports/studies/x.json", "mlruns/README.md", "data.dvc"]
    kept = subprocess.run(["git", "check-ignore", *tracked], cwd=root, capture_output=True)
    assert kept.stdout == b""
