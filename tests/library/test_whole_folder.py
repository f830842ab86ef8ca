"""A folder appears whole or not at all, in the place of an older one, and for one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from synfer import files
from synfer.files import FolderInUseError, locked, replace_folder, whole_folder


def test_a_folder_appears_whole_and_alone(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole_folder(tmp_path / "a" / "folder") as temporary:
            (temporary / "file").write_text(text)
            assert not (tmp_path / "a" / "folder" / "file").exists() or text == "new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["folder"]
    assert (tmp_path / "a" / "folder" / "file").read_text() == "new"


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    def fail() -> None:
        with whole_folder(tmp_path / "folder") as temporary:
            (temporary / "file").write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert list(tmp_path.rglob("*")) == [tmp_path / "folder"]


def test_two_processes_do_not_write_the_same_folder(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_text("mine")
        with pytest.raises(FolderInUseError, match="another process is writing"), whole_folder(tmp_path / "folder"):
            pass
        assert (temporary / "file").read_text() == "mine"
    assert (tmp_path / "folder" / "file").read_text() == "mine"


def test_what_a_killed_process_left_does_not_come_back(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from synfer.files import whole_folder
with whole_folder(Path({str(tmp_path / "folder")!r})) as temporary:
    (temporary / "part").mkdir()
    (temporary / "part" / "file").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "folder").exists()
    with whole_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_text("whole")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "file"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_never_away_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    """Where names can be exchanged, the old folder is there until the new one is; elsewhere two renames do it."""
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    renamed = []
    rename = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (renamed.append(Path(source).name), rename(source, target)))
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "file").read_text() == "new"
    assert renamed == ([] if can_exchange else ["old", "new"])


def test_a_lock_is_held_by_one_process_and_freed_when_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from synfer.files import locked\n"
        "with locked(Path(sys.argv[1])): print(1, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a" / "lock")], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"1\n"
        waited: list[str] = []

        def kill() -> None:
            waited.append("once")
            other.kill()

        with locked(tmp_path / "a" / "lock", on_wait=kill):
            assert waited == ["once"]
    for free in (tmp_path / "a" / "lock", tmp_path):
        with locked(free, on_wait=lambda: waited.append("again")):
            assert waited == ["once"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"], "the lock on a folder is no file"
