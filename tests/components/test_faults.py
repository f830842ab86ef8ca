"""Faults of the world around a stage: a full disk, damaged files, an MLflow that goes away, two calls of DVC at once."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest

from components import corpus, data_registry, synthesis, tracking
from components.embedded_corpus import write_corpus
from components.faults import DamagedInputError, FullDiskError, TrackingError, told
from components.journal import Journal
from components.partial import open_partial
from components.stages import run_stage
from components.workspace import Workspace
from synfer.classifiers.models import create, save
from synfer.config import Config, load_config
from synfer.images import DamagedShardError, iter_images, shard_path, write_shard
from synfer.vocabulary import DEFAULT_EXPRESSIONS

# --- a full disk ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", folder], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_with_place_and_space_and_the_run_with_space_leaves_the_same_manifest(
    world: Workspace, settings: Config, small_disk: Path, tmp_path: Path
) -> None:
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64), tmp_path / "roles" / "guide", {})
    section = settings.synthesis.model_copy(update={"images": 12, "batch_size": 1, "shard_images": 1, "num_inference_steps": 2})
    inputs = {"development": world.stage("corpus") / "development", "generator": world.stage("generator"), "fer_models": tmp_path / "roles"}
    with pytest.raises(FullDiskError, match=rf"no space for {small_disk}.*: 0\.0 MB are free there; .*: make space, and run the same"):  # noqa: SIM117
        with told(world, small_disk):
            synthesis.run(section, settings.common, **inputs, out=small_disk)
    finished = {path: path.stat().st_mtime_ns for path in small_disk.glob("images-*.parquet")}
    assert 1 < len(finished) < 12
    assert not list(small_disk.glob(".*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    synthesis.run(section, settings.common, **inputs, out=small_disk)
    synthesis.run(section, settings.common, **inputs, out=tmp_path / "undisturbed")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert (small_disk / "manifest.parquet").read_bytes() == (tmp_path / "undisturbed" / "manifest.parquet").read_bytes()


# --- damaged files ----------------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """Change one bit in the middle of a file; its size stays."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damaged_shards_of_an_unfinished_stage_are_removed_and_whole_ones_stay(workspace: Workspace) -> None:
    partial = open_partial(workspace.stage("synthesis"), "same")
    for number in range(4):
        write_shard(partial, number, [f"{number}-{row}" for row in range(5)], [bytes([number, row]) * 500 for row in range(5)])
    flip(shard_path(partial, 0))
    shard_path(partial, 1).write_bytes(shard_path(partial, 1).read_bytes()[:-7])
    shard_path(partial, 2).write_bytes(b"")
    open_partial(workspace.stage("synthesis"), "same")
    assert [path.name for path in partial.glob("*.parquet")] == ["images-00003.parquet"]


def test_arrays_of_an_unfinished_stage_that_were_cut_off_are_removed(workspace: Workspace) -> None:
    partial = open_partial(workspace.stage("feranno"), "same")
    for name in ("whole", "short", "empty"):
        np.save(partial / f"{name}.npy", np.arange(1000))
    (partial / "short.npy").write_bytes((partial / "short.npy").read_bytes()[:-7])
    (partial / "empty.npy").write_bytes(b"")
    open_partial(workspace.stage("feranno"), "same")
    assert [path.name for path in partial.glob("*.npy")] == ["whole.npy"]


@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        ("artifacts/synthesis", "make it again with: synfer run synthesis"),
        ("artifacts/corpus/test", "make it again with: synfer run corpus"),
        ("artifacts/studies/cells/0f", "remove artifacts/studies/cells/0f and run the same study again"),
        ("artifacts/studies/pool/0f/corpus/test", "remove artifacts/studies/pool/0f/corpus and run the same study again"),
        (
            "artifacts/studies/pool/0f/faces-1e/20-0/synthesis",
            "remove artifacts/studies/pool/0f/faces-1e/20-0/synthesis and run the same study again",
        ),
        ("data/synthetic/laptop", "bring it back with: dvc checkout --force data/synthetic/laptop"),
        ("data/affectnet", "import it again with: synfer import"),
        ("elsewhere", "bring it back from where it came"),
    ],
)
def test_a_shard_with_one_changed_bit_is_named_with_what_to_do(workspace: Workspace, place: str, remedy: str) -> None:
    (workspace.root / "data.dvc").write_text("outs:\n- {path: data/synthetic/laptop, md5: 0123456789abcdef.dir}\n")
    path = write_shard(workspace.root / place, 0, ["one", "two"], [b"1" * 5000, b"2" * 5000])
    flip(path)
    with pytest.raises(DamagedShardError, match=f"{path} is damaged: .*checksum"):
        list(iter_images(path.parent))
    with pytest.raises(DamagedInputError, match=f"{path} is damaged: .*; {remedy}$"), told(workspace, workspace.artifacts):
        list(iter_images(path.parent))


# --- a lost MLflow ----------------------------------------------------------------------------------------------------------------


class Server:
    """An MLflow server that can be killed and started again at the same address."""

    def __init__(self, folder: Path, database: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)),
            *("--backend-store-uri", f"sqlite:///{database}", "--default-artifact-root", f"mlflow-artifacts:/{folder.name}"),
            *("--artifacts-destination", str(folder)),
        ]

    def start(self) -> None:
        log = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        while True:
            assert self._process.poll() is None, "the server ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)

    def kill(self) -> None:
        for process in [*psutil.Process(self._process.pid).children(recursive=True), self._process]:
            os.kill(process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tracked_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server, which the project's stages use; no call waits minutes for one that is gone."""
    found = Server(tracked_workspace.mlruns / "artifacts", tracked_workspace.mlruns / "mlflow.db")
    monkeypatch.setenv(tracking.URI, found.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    found.start()
    yield found
    found.kill()


@pytest.mark.slow
def test_a_stage_is_kept_when_mlflow_is_lost_and_its_metrics_come_with_the_rerun(
    server: Server, tracked_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, real = tracked_workspace, corpus.run
    write_corpus(workspace.data / "faces", identities=21, images_per_identity=7, size=32)
    config = load_config(workspace.params, overrides=["common.image_size=32"])

    def loses_mlflow(*arguments: object, **named: object) -> None:
        tracking.log_metrics({"before": 1.0})
        server.kill()
        tracking.log_metrics({"meanwhile": 2.0}, step=7)
        real(*arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as lost:
        lost.setattr(corpus, "run", loses_mlflow)
        with pytest.raises(TrackingError, match=f"MLflow at {server.address} does not answer; what is finished is kept"):
            run_stage("corpus", config, workspace, journal=Journal(workspace))
    mlflow.end_run()
    manifest = workspace.stage("corpus") / "test" / "manifest.parquet"
    before = manifest.stat().st_mtime_ns
    server.start()
    journal = Journal(workspace)
    run_stage("corpus", config, workspace, journal=journal)
    assert manifest.stat().st_mtime_ns == before, "it was made again"
    assert journal.is_logged("corpus")
    runs = mlflow.MlflowClient().search_runs(["1"], order_by=["attributes.start_time"])
    assert [sorted(run.data.metrics)[:2] for run in runs] == [["before"], ["corpus/identities", "corpus/images"]]


def test_the_password_in_the_address_of_mlflow_is_in_no_line_of_what_is_told(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "http://ada:secret@127.0.0.1:1"  # nobody listens there
    monkeypatch.setenv(tracking.URI, address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:1 does not answer") as found:
        tracking.connect(workspace)
    with pytest.raises(TrackingError) as without_cause, told(workspace, workspace.artifacts):
        raise mlflow.MlflowException(f"API request to {address} failed")
    for error in (found.value, without_cause.value):
        assert "secret" not in "".join(traceback.format_exception(error)), "Prefect logs the causes too"


# --- two calls at once ------------------------------------------------------------------------------------------------------------


REPRO = """
import sys
from pathlib import Path
from components.dvc_repro import repro_lines
from components.workspace import Workspace
print(*repro_lines(Workspace(Path(sys.argv[1]))), sep="\\n")
"""
WAITS = "while not Path('go').exists(): time.sleep(0.05)\nPath('made').write_text('by dvc')"
STAGE = "import sys; from pathlib import Path; from components.workspace import Workspace; "
STAGE += "exec('with Workspace(Path.cwd()).exclusive(): Path(\\'made\\').write_text(\\'by dvc\\')')"


def test_a_release_and_a_repro_at_once_wait_for_one_another_and_both_end(workspace: Workspace, root: Path) -> None:
    (workspace.root / "stage.py").write_text(STAGE)
    (workspace.root / "dvc.yaml").write_text(f"stages:\n  one:\n    cmd: {sys.executable} stage.py\n    outs: [made]\n")
    release = workspace.data / "synthetic" / "small"
    release.mkdir(parents=True)
    (release / "CARD.md").write_text("a release")
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", REPRO, str(workspace.root)]
    with workspace.exclusive():
        repro = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while not _waits_for_a_lock(repro.pid):
            assert repro.poll() is None, repro.stdout.read() if repro.stdout else ""
            time.sleep(0.05)
        data_registry.track(workspace, release)  # would wait for ever, if the repro held DVC's lock now
    said, _ = repro.communicate(timeout=200)
    assert repro.returncode == 0, said
    assert (workspace.root / "made").read_text() == "by dvc"
    assert "data/synthetic/small" in (workspace.root / "data.dvc").read_text()


def test_a_repro_whose_caller_was_killed_keeps_the_project_until_dvc_has_ended(workspace: Workspace, root: Path) -> None:
    (workspace.root / "stage.py").write_text("import time\nfrom pathlib import Path\nPath('begun').touch()\n" + WAITS)
    (workspace.root / "dvc.yaml").write_text(f"stages:\n  one:\n    cmd: {sys.executable} stage.py\n    outs: [made]\n")
    repro = subprocess.Popen(
        [sys.executable, "-c", REPRO, str(workspace.root)], env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL
    )
    while not (workspace.root / "begun").exists():
        assert repro.poll() is None
        time.sleep(0.05)
    below = psutil.Process(repro.pid).children(recursive=True)
    repro.kill()
    repro.wait()
    held = [_is_held(place) for place in (workspace.root, workspace.root / ".dvc" / "tmp" / "synfer.lock")]
    (workspace.root / "go").touch()
    assert psutil.wait_procs(below, timeout=200)[1] == []
    assert held == [True, True], "the stage still wrote"
    with workspace.exclusive():
        assert (workspace.root / "made").read_text() == "by dvc"


def _is_held(path: Path) -> bool:
    """Whether some process holds the lock on a folder or file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _waits_for_a_lock(pid: int) -> bool:
    """Whether a process or one below it waits for a lock on a file, by Linux's table of locks."""
    numbers = {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any("->" in line and int(line[5]) in numbers for line in lines)
