"""The smoke pipeline end to end, by Prefect and by DVC: the same manifests, runs in MLflow, pages in Prefect, a gate that stops."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import yaml
from sqlalchemy import create_engine, text

from components import journal, tracking
from components.lineage import data_digests
from components.stages import STAGES
from components.workspace import Workspace
from flows.commands.params import as_yaml
from flows.pipeline_run import TOLD
from synfer.config import load_config
from synfer.images import load_images
from synfer.manifest import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

REPORTED = (
    "generation/judge_accuracy", "generation/kid", "classifiers/real/uar", "classifiers/synthetic/uar", "classifiers/real+synthetic/uar",
    "corpus/images", "rectification/kept",
)  # fmt: skip


@dataclass(frozen=True)
class Project:
    """A copy of the project and what its run printed."""

    root: Path
    output: str = ""
    errors: str = ""

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"


def environment() -> dict[str, str]:
    """The environment of a command in a copy: this interpreter first, one thread, Prefect's home in the copy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def synfer(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `synfer` in a copy."""
    return subprocess.run([sys.executable, "-m", "flows.cli", *arguments], cwd=project, env=environment(), capture_output=True, text=True)


def copy_project(root: Path, target: Path) -> Path:
    """Copy what git knows or would take, and the embedded corpus; the smoke configuration is the copy's params.yaml."""
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file() and not name.startswith(("tests/", ".dvc/seed/")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    shutil.copytree(root / "data" / "faces", target / "data" / "faces")
    registry = yaml.safe_load((root / "data.dvc").read_text())
    registry["outs"] = [out for out in registry["outs"] if out["path"] == "data/faces"]  # releases of this checkout stay here
    (target / "data.dvc").write_text(yaml.safe_dump(registry))
    (target / "params.yaml").write_text(as_yaml(load_config(root / "params.yaml", overlays=["smoke"])))
    subprocess.run(["git", "init", "--quiet"], cwd=target, check=True)
    return target


@pytest.fixture(scope="module")
def smoke_runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Project]:
    """The finished projects (Prefect's, DVC's); both run at once, one thread each."""
    by_flow = copy_project(root, tmp_path_factory.mktemp("flow"))
    by_dvc = copy_project(root, tmp_path_factory.mktemp("dvc"))
    commands = {by_flow: [sys.executable, "-m", "flows.cli", "flow", "pipeline"], by_dvc: [sys.executable, "-m", "dvc", "repro"]}
    running = {
        project: subprocess.Popen(command, cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for project, command in commands.items()
    }
    try:
        printed = {project: process.communicate() for project, process in running.items()}
    finally:
        for process in running.values():
            process.kill()  # of a test that ran out of time; a finished one does not mind
    for project, process in running.items():
        assert process.returncode == 0, "\n".join(printed[project])[-5000:]
    return Project(by_flow, *printed[by_flow]), Project(by_dvc, *printed[by_dvc])


Runs = tuple[Project, Project]


def test_prefect_and_dvc_leave_the_same_files(smoke_runs: Runs) -> None:
    by_flow, by_dvc = smoke_runs
    kept = ("*.parquet", "*.safetensors", "metrics.json")
    made = {path.relative_to(by_dvc.artifacts) for pattern in kept for path in by_dvc.artifacts.rglob(pattern)}
    assert {path.parts[0] for path in made if path.name == "manifest.parquet"} == {"corpus", "synthesis", "rectification"}
    different = [str(path) for path in sorted(made) if (by_flow.artifacts / path).read_bytes() != (by_dvc.artifacts / path).read_bytes()]
    assert different == []


def test_every_stage_left_its_folder_and_nothing_unfinished(smoke_runs: Runs) -> None:
    by_flow, by_dvc = smoke_runs
    assert {path.name for path in by_flow.artifacts.iterdir()} == {*STAGES, journal.NAME, TOLD}
    assert {path.name for path in by_dvc.artifacts.iterdir()} == {name for name, stage in STAGES.items() if stage.in_dvc}


def test_a_second_repro_has_nothing_to_do(smoke_runs: Runs) -> None:
    _, by_dvc = smoke_runs
    again = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=by_dvc.root, env=environment(), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "Data and pipelines are up to date." in again.stdout
    assert "Running stage" not in again.stdout


def test_metrics_of_all_stages_in_one_flat_file(smoke_runs: Runs) -> None:
    by_flow, by_dvc = smoke_runs
    metrics = json.loads((by_flow.root / "reports" / "metrics.json").read_text())
    assert set(REPORTED) <= set(metrics)
    assert all(set(entry) == {"value", "low", "high", "n"} for entry in metrics.values())
    assert metrics == json.loads((by_dvc.root / "reports" / "metrics.json").read_text())


def test_released_rows_are_the_rectified_ones(smoke_runs: Runs) -> None:
    project = smoke_runs[0]
    release, rectified = project.root / "data" / "synthetic" / "smoke", project.artifacts / "rectification"
    assert (release / "manifest.parquet").read_bytes() == (rectified / "manifest.parquet").read_bytes()
    assert "data/synthetic/smoke" in data_digests(project.root)
    ids = read_manifest(rectified)["sample_id"].tolist()
    assert (load_images(release, ids, size=64) == load_images(project.artifacts / "synthesis", ids, size=64)).all()


def test_terminal_names_every_stage_and_where_to_look(smoke_runs: Runs) -> None:
    lines = smoke_runs[0].output.splitlines()
    for number, name in enumerate(STAGES, start=1):
        assert any(line.startswith(f"{number:2d}/{len(STAGES)} {name} ") for line in lines)
    assert any(line.strip().startswith("report") and "reports/report.html" in line for line in lines)
    assert "data/synthetic/smoke" in smoke_runs[0].output
    assert "Traceback" not in smoke_runs[0].errors


def test_mlflow_has_a_parent_with_a_child_a_stage_and_a_champion(smoke_runs: Runs) -> None:
    tracking.connect(Workspace(smoke_runs[0].root))
    client = mlflow.MlflowClient()
    experiment = mlflow.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]

    def below(run: mlflow.entities.Run) -> dict[str, mlflow.entities.Run]:
        found = [other for other in runs if other.data.tags.get("mlflow.parentRunId") == run.info.run_id]
        return {other.data.tags["stage"]: other for other in found}

    children = below(parent)
    assert set(children) == set(STAGES)
    assert below(children["registration"])["promotion"].data.tags["champion"] == "1"
    assert len(runs) == 1 + len(children) + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert parent.data.params["synthesis.images"] == "56"
    assert len({dataset.dataset.name for dataset in children["classifiers"].inputs.dataset_inputs}) == 3
    champion = client.get_model_version_by_alias("synfer-smoke", "champion")
    assert champion.tags["validation_status"] == "passed"
    assert champion.tags["prefect.flow_run"] == parent.data.tags["prefect.flow_run"]


def test_prefect_keeps_named_runs_and_pages_with_pictures(smoke_runs: Runs) -> None:
    with sqlite3.connect(smoke_runs[0].root / ".prefect" / "prefect.db") as database:
        assert database.execute("select name, state_type from flow_run").fetchall() == [("laptop", "COMPLETED")]
        tasks = dict(database.execute("select name, state_type from task_run").fetchall())
        pages = dict(database.execute("select key, data from artifact where type = 'markdown'").fetchall())
        events = dict(database.execute("select event, payload from events where event like 'synfer.%'").fetchall())
    assert tasks == {f"{number:02d} {name}": "COMPLETED" for number, name in enumerate(STAGES, start=1)}
    assert {name.replace("_", "-") for name in STAGES} == set(pages)
    assert "data:image/jpeg;base64," in pages["synthesis"]
    assert json.loads(events["synfer.release.published"])["path"] == "data/synthetic/smoke"


def test_a_closed_gate_stops_the_flow_naming_the_expectation(smoke_runs: Runs) -> None:
    project = smoke_runs[0]
    before = (project.artifacts / "classifiers" / "metrics.json").stat().st_mtime_ns
    stopped = synfer(project.root, "flow", "pipeline", "--from", "validation", "--set", "validation.min_per_class=1000")
    assert stopped.returncode == 1
    told = [line for line in stopped.stderr.splitlines() if line.startswith("synfer: the gate is closed: ")]
    assert len(told) == 1
    assert "1000" in told[0]
    assert "Traceback" not in stopped.stderr
    assert (project.artifacts / "classifiers" / "metrics.json").stat().st_mtime_ns == before


def test_the_same_flow_runs_on_postgresql_and_tells_no_password(smoke_runs: Runs, postgres: str, root: Path, tmp_path: Path) -> None:
    project = copy_project(root, tmp_path / "project")
    shutil.copytree(smoke_runs[0].artifacts, project / "artifacts")
    address = postgres.replace("@", ":verysecret@")
    team = {
        "SYNFER_MLFLOW_URI": f"postgresql+psycopg2://{address}/mlflow",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{address}/prefect",
    }
    command = [sys.executable, "-m", "flows.cli", "flow", "pipeline", "--from", "evaluation"]
    done = subprocess.run(command, cwd=project, env=environment() | team, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    assert not (project / "mlruns" / "mlflow.db").exists()
    with create_engine(team["SYNFER_MLFLOW_URI"]).connect() as database:
        stages = {row[0] for row in database.execute(text("select value from tags where key = 'stage'"))}
        aliases = [tuple(row) for row in database.execute(text("select alias, version from registered_model_aliases"))]
        values = [str(row[0]) for row in database.execute(text("select value from tags union all select value from params"))]
    assert {"evaluation", "audit", "report", "release", "registration", "promotion"} == stages
    assert aliases == [("champion", 1)]
    with create_engine(team["SYNFER_MLFLOW_URI"].replace("/mlflow", "/prefect")).connect() as database:
        states = [tuple(row) for row in database.execute(text("select name, state_name from flow_run"))]
        logs = [row[0] for row in database.execute(text("select message from log"))]
    assert states == [("laptop from evaluation", "Completed")]
    assert "verysecret" not in "\n".join([done.stdout, done.stderr, *values, *logs])
