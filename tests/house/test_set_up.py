"""The set-up: exact versions in the lock file, ranges in pyproject.toml, one target a job."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from components.workspace import Workspace

TARGETS = ("assets", "bench", "check", "clean", "demo", "down", "repro", "results", "setup", "test", "ui", "up")


def locked(root: Path, name: str = "requirements.lock") -> dict[str, str]:
    lines = (root / name).read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    strange = [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin)]
    assert strange == [], "a lock line is NAME==VERSION: no host, no path, no local build tag"
    return {canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins)}


def test_lock_fulfils_every_range_of_the_project(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pins = locked(root)
    extras = project["optional-dependencies"]
    for text in (*project["dependencies"], *extras["dev"], *extras["bench"]):
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_lock_of_the_tests_adds_the_extra_ray_and_changes_no_version(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pins = locked(root, "requirements-test.lock")
    assert not set(pins) & set(locked(root))
    (requirement,) = map(Requirement, extras["ray"])
    assert requirement.specifier.contains(pins["ray"])


def test_only_the_tests_install_the_lock_of_the_tests(root: Path) -> None:
    steps = {target: planned(root, target) for target in ("demo", "test")}
    assert "--requirement requirements-test.lock" in steps["test"] and "--requirement requirements.lock" in steps["test"]
    assert "requirements-test.lock" not in steps["demo"]


def planned(root: Path, target: str) -> str:
    """What make would run in a fresh clone."""
    command = ["make", "--dry-run", "--no-print-directory", "VENV=no-such-folder", target]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout


def test_lock_keeps_the_pins_that_prefect_needs(root: Path) -> None:
    pins = locked(root)
    assert Requirement("x<0.151").specifier.contains(pins["fastapi"])
    assert pins["sqlalchemy"].startswith("2.0.")


def test_make_lists_its_targets(root: Path) -> None:
    done = subprocess.run(["make", "--no-print-directory", "help"], cwd=root, capture_output=True, text=True, check=True)
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == sorted([*TARGETS, "help"])


def test_make_clean_keeps_the_work_of_studies_and_assets_and_waits_for_nobody(root: Path, tmp_path: Path) -> None:
    for name in ("assets", "studies", "corpus"):
        (tmp_path / "artifacts" / name).mkdir(parents=True)
    clean = ["make", "--no-print-directory", f"--file={root / 'Makefile'}", "clean"]
    with Workspace(tmp_path).exclusive():
        done = subprocess.run(clean, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode and "a run writes artifacts/ at this moment" in done.stdout
    assert (tmp_path / "artifacts" / "corpus").is_dir()
    subprocess.run(clean, cwd=tmp_path, check=True)
    assert sorted(path.name for path in (tmp_path / "artifacts").iterdir()) == ["assets", "studies"]
    shutil.rmtree(tmp_path / "artifacts")
    subprocess.run(clean, cwd=tmp_path, check=True)


def test_ci_runs_checks_and_tests(root: Path) -> None:
    script = root / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert [line for line in script.read_text().splitlines() if line.startswith("make")] == ["make check", "make test"]
