"""Where a result comes from: the commit of the code and the digest of the data."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

REGISTRY = "data.dvc"
EMBEDDED = "data/faces"
"""The corpus that comes with the repository, one entry of the registry."""
DATA_TAG = "data.dvc_md5"


_WRITTEN_BY_RUNS = (REGISTRY, "dvc.lock", "reports")


def git_commit(root: Path) -> str | None:
    """Commit of a checkout, with `-dirty` where tracked files differ from it that no run writes by itself; None outside git."""
    try:
        commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    except FileNotFoundError:
        return None
    if commit.returncode:
        return None
    same = _git(root, "diff", "--quiet", "HEAD", "--", ".", *(f":!{path}" for path in _WRITTEN_BY_RUNS)).returncode == 0
    return commit.stdout.strip() + ("" if same else "-dirty")


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)


def data_digests(root: Path) -> dict[str, str]:
    """DVC's digest (36 characters, `<md5>.dir`) of every dataset in `data.dvc` by path; empty without the file."""
    try:
        registry = yaml.safe_load((root / REGISTRY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {str(out["path"]): str(out["md5"]) for out in registry["outs"] if "md5" in out}


def lineage_tags(root: Path, source: str | Path = EMBEDDED) -> dict[str, str]:
    """Tags `git.commit` and `data.dvc_md5` of a project, those that are known; the latter of the folder that the corpus comes from.

    A relative `source` is one of the project; `data.dvc` need not have it.
    """
    folder = (root / source).resolve()
    digest = next((digest for place, digest in data_digests(root).items() if (root / place).resolve() == folder), None)
    found = {"git.commit": git_commit(root), DATA_TAG: digest}
    return {name: value for name, value in found.items() if value is not None}
