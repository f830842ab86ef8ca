"""Where a result comes from: the commit of the code and the digest of the data."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

REGISTRY = "data.dvc"
EMBEDDED = "data/faces"
"""The corpus that comes with the repository, one entry of the registry."""


def git_commit(root: Path) -> str | None:
    """Commit of a checkout, with `-dirty` where tracked files differ from it; None outside git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"], cwd=root, capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def data_digests(root: Path) -> dict[str, str]:
    """DVC's digest (36 characters, `<md5>.dir`) of every dataset in `data.dvc` by path; empty without the file."""
    try:
        registry = yaml.safe_load((root / REGISTRY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {str(out["path"]): str(out["md5"]) for out in registry["outs"] if "md5" in out}


def lineage_tags(root: Path) -> dict[str, str]:
    """Tags `git.commit` and `data.dvc_md5` (of the embedded corpus) of a project, those that are known."""
    found = {"git.commit": git_commit(root), "data.dvc_md5": data_digests(root).get(EMBEDDED)}
    return {name: value for name, value in found.items() if value is not None}
