"""`synfer release`: made once, tagged on a commit of data.dvc alone, pushed; a call that failed is repeated as it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from components.lineage import data_digests
from components.record import Record
from components.releases.publish import Made, PublishError, tag_release
from components.workspace import Workspace
from flows.cli import main
from synfer.files import sha256, write_json

RESULT = {"success": True, "critical": [], "warning": [], "expectations": []}


def run(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


def dvc(*arguments: str, cwd: Path) -> str:
    return run(sys.executable, "-m", "dvc", *arguments, cwd=cwd)


def make_repository(root: Path) -> None:
    run("git", "init", "--quiet", "--initial-branch", "main", cwd=root)
    for key, value in {"user.name": "somebody", "user.email": "somebody@example.org", "commit.gpgsign": "false"}.items():
        run("git", "config", key, value, cwd=root)
    (root / ".gitignore").write_text("/artifacts\n/data\n/mlruns\n/reports\n/.dvc/tmp\n/.dvc/cache\n")
    run("git", "add", "--all", cwd=root)
    run("git", "commit", "--quiet", "-m", "project", cwd=root)


@pytest.fixture
def project(
    rectified: pd.DataFrame, tracked_workspace: Workspace, leave_audit: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A project in git whose stages before the release are there; without remotes."""
    write_json(tracked_workspace.stage("validation") / "result.json", RESULT)
    Record(tracked_workspace.stage("validation")).save()
    leave_audit(tracked_workspace.artifacts)
    make_repository(tracked_workspace.root)
    monkeypatch.chdir(tracked_workspace.root)
    return tracked_workspace


def add_remotes(root: Path, place: Path) -> Path:
    """A DVC remote that is a folder, and a bare git repository; returns the latter."""
    dvc("remote", "add", "--default", "there", str(place / "dvc"), cwd=root)
    run("git", "init", "--quiet", "--bare", str(place / "origin.git"), cwd=root)
    run("git", "remote", "add", "origin", str(place / "origin.git"), cwd=root)
    run("git", "commit", "--quiet", "-m", "remote", "--", ".dvc/config", cwd=root)
    return place / "origin.git"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["release", *arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err.strip().splitlines()[-1] if err.strip() else ""


def test_a_release_is_made_tagged_and_pushed_so_that_a_clone_at_the_tag_pulls_it_and_again_nothing_happens(
    project: Workspace, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    root, place = project.root, tmp_path_factory.mktemp("remotes")
    origin = add_remotes(root, place)
    (root / "notes.txt").write_text("staged, and no part of the release")
    run("git", "add", "notes.txt", cwd=root)
    status, out, _ = call(capsys, "--name", "first", "--tag", "--push")
    digest = data_digests(root)["data/synthetic/first"]
    tag = f"release/first-{digest[:8]}"
    assert status == 0
    assert "data/synthetic/first: 70 images, made" in out and f"data.dvc: {digest}" in out
    assert run("git", "show", "--name-only", "--format=", "HEAD", cwd=root).split() == ["data.dvc"]
    assert "A  notes.txt" in run("git", "status", "--porcelain", cwd=root)
    assert run("git", "ls-remote", "--tags", str(origin), cwd=root).split()[1] == f"refs/tags/{tag}"
    assert "refs/heads" not in run("git", "ls-remote", str(origin), cwd=root), "the branch is not pushed"

    run("git", "clone", "--quiet", "--branch", tag, str(origin), str(place / "clone"), cwd=place)
    dvc("pull", "--quiet", "data/synthetic/first", cwd=place / "clone")
    assert sha256(place / "clone" / "data" / "synthetic" / "first") == sha256(root / "data" / "synthetic" / "first")

    before, head = sha256(project.data), run("git", "rev-parse", "HEAD", cwd=root)
    status, out, _ = call(capsys, "--name", "first", "--tag", "--push")
    assert status == 0
    assert "nothing has changed since it was made" in out and f"tag {tag} was there already" in out
    assert (sha256(project.data), run("git", "rev-parse", "HEAD", cwd=root)) == (before, head)


def test_a_step_that_fails_says_what_is_done_and_the_repeated_call_does_the_rest(
    project: Workspace, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project.root
    licensed = ("--set", "release.license=CC-BY-SA-4.0")
    status, _, line = call(capsys, "--name", "first", "--tag", "--push", *licensed)
    tag = f"release/first-{data_digests(root)['data/synthetic/first'][:8]}"
    assert status == 1
    assert line.startswith("synfer: dvc could not push data/synthetic/first: ") and "remote" in line
    assert f"; done so far: data/synthetic/first is made, tag {tag} is set; repeat: " in line
    assert line.endswith(f"synfer release --name first --tag --push {' '.join(licensed)}")

    dvc("remote", "add", "--default", "there", str(tmp_path_factory.mktemp("dvc")), cwd=root)
    status, _, line = call(capsys, "--name", "first", "--tag", "--push", *licensed)
    assert status == 1
    assert line.startswith("synfer: git has no remote for the tag: none; name one with: git remote add origin URL; done so far: ")
    assert "the data are pushed; repeat: " in line

    run("git", "remote", "add", "elsewhere", str(root / "nowhere.git"), cwd=root)
    status, _, line = call(capsys, "--name", "first", "--tag", "--push", *licensed)
    assert status == 1 and line.startswith(f"synfer: git could not push tag {tag} to elsewhere: ")
    run("git", "init", "--quiet", "--bare", str(root / "nowhere.git"), cwd=root)
    assert call(capsys, "--name", "first", "--tag", "--push", *licensed)[0] == 0


def test_artifacts_that_changed_make_another_release_and_an_older_registry_is_renewed(
    project: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ": 70 images, made" in call(capsys)[1]
    registry, digest = project.root / "data.dvc", data_digests(project.root)["data/synthetic/laptop"]
    registry.write_text(registry.read_text().replace(digest, "0123456789abcdef0123456789abcdef.dir"))  # as a checkout of it leaves it
    out = call(capsys)[1]
    assert "nothing has changed" in out and f"data.dvc: {digest}" in out
    assert data_digests(project.root)["data/synthetic/laptop"] == digest
    (project.data / "synthetic" / "laptop" / "CARD.md").write_text("by hand")
    assert ": 70 images, made" in call(capsys)[1]
    write_json(project.stage("validation") / "result.json", RESULT | {"warning": ["one"]})
    assert ": 70 images, made" in call(capsys)[1]


@pytest.fixture
def registered(tmp_path: Path) -> Made:
    """A release that `data.dvc` of a folder has, without the data."""
    (tmp_path / "data.dvc").write_text("outs:\n- {path: data/synthetic/a, md5: 0123456789abcdef.dir}\n")
    return Made("a", "data/synthetic/a", "0123456789abcdef.dir", 70, new=True)


def test_a_tag_needs_a_commit_and_a_registry_that_is_committed_already_needs_no_other(registered: Made, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="git could not find a commit to tag: commit the project first"):
        tag_release(tmp_path, registered)
    make_repository(tmp_path)
    head = run("git", "rev-parse", "HEAD", cwd=tmp_path)
    assert tag_release(tmp_path, registered) == ["tag release/a-01234567"]
    assert run("git", "rev-parse", "HEAD", cwd=tmp_path) == head
    assert run("git", "cat-file", "-p", "release/a-01234567", cwd=tmp_path).endswith("data/synthetic/a: 70 images, 0123456789abcdef.dir\n")


def test_a_tag_of_other_data_is_told_and_uncommitted_files_are_noted(registered: Made, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("1")
    make_repository(tmp_path)
    (tmp_path / "code.py").write_text("2")
    assert tag_release(tmp_path, registered)[-1] == "note: 1 tracked files have uncommitted changes, which the tag does not hold"
    other = Made("a", "data/synthetic/a", "01234567ffffffff.dir", 70, new=True)
    with pytest.raises(PublishError, match=r"tag release/a-01234567 exists and names other data"):
        tag_release(tmp_path, other)
