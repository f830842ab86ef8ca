"""Where a result comes from: the commit of the code and the digest of the data."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml


def git_commit(root: Path) -> str | None:
    """Commit of a checkout, with `-dirty` where tracked files differ from it; None outside git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"], cwd=root, capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def data_md5(root: Path) -> str | None:
    """DVC's digest of the dataset registry (36 characters, `<md5>.dir`), or None where `data.dvc` does not exist."""
    try:
        tracked = yaml.safe_load((root / "data.dvc").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return str(tracked["outs"][0]["md5"])


def lineage_tags(root: Path) -> dict[str, str]:
    """Tags `git.commit` and `data.dvc_md5` of a project, those that are known."""
    found = {"git.commit": git_commit(root), "data.dvc_md5": data_md5(root)}
    return {name: value for name, value in found.items() if value is not None}
