"""Lineage: the commit of the code, whatever a run writes by itself, and the digest of the corpus that was used."""

from __future__ import annotations

import subprocess
from pathlib import Path

from components.lineage import git_commit, lineage_tags


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def test_what_runs_write_by_themselves_makes_no_commit_dirty_and_code_does(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    for name in ("code.py", "data.dvc", "reports/metrics.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("outs: []\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "-m", "project")
    commit = git(tmp_path, "rev-parse", "HEAD")
    for name in ("data.dvc", "reports/metrics.json"):
        (tmp_path / name).write_text("outs: [] # a release\n")
    (tmp_path / "code.py").touch()
    assert git_commit(tmp_path) == commit
    (tmp_path / "code.py").write_text("changed")
    assert git_commit(tmp_path) == f"{commit}-dirty"


def test_the_digest_is_that_of_the_corpus_that_was_used(tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs:\n- {path: data/faces, md5: 01.dir}\n- {path: data/fer2013, md5: 23.dir}\n")
    assert lineage_tags(tmp_path)["data.dvc_md5"] == "01.dir"
    assert lineage_tags(tmp_path, "data/fer2013")["data.dvc_md5"] == "23.dir"
    assert lineage_tags(tmp_path, tmp_path / "data" / "fer2013")["data.dvc_md5"] == "23.dir"
    assert "data.dvc_md5" not in lineage_tags(tmp_path, "/elsewhere/affectnet")
