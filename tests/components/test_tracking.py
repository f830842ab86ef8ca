"""Tracking: runs nest, a new database survives several processes, nothing happens outside a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import yaml

from components import tracking
from components.embedded_corpus import write_corpus
from components.record import Record
from components.workspace import Workspace


def finished_runs(workspace: Workspace) -> dict[str, mlflow.entities.Run]:
    tracking.connect(workspace)
    experiment = mlflow.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    return {run.data.tags["mlflow.runName"]: run for run in mlflow.MlflowClient().search_runs([experiment.experiment_id])}


def test_stages_are_children_of_the_pipeline_run_and_alone_otherwise(tracked_workspace: Workspace) -> None:
    workspace = tracked_workspace
    digest = "0123456789abcdef0123456789abcdef.dir"
    outs = [{"md5": digest, "path": "data/faces"}, {"md5": digest[::-1], "path": "data/others"}]
    (workspace.root / "data.dvc").write_text(yaml.safe_dump({"outs": outs}))
    used = {"common": {"seed": 3}, "corpus": {"source": "data/others"}}
    with (
        tracking.pipeline_run(workspace, "all", parameters=used, tags={"prefect.flow_run": "f"}) as parent,
        tracking.stage_run(workspace, "corpus", parameters={"corpus": {"train": 5}}),
    ):
        tracking.log_metrics({"loss": 2.0}, step=1)
        tracking.log_metrics({"loss": 1.0}, step=2)
    with tracking.stage_run(workspace, "alone", parameters={}, tags={"why": "test"}):
        tracking.log_metrics({"classifiers/real+synthetic/uar": 0.5})
    runs = finished_runs(workspace)
    assert runs["corpus"].data.tags["mlflow.parentRunId"] == parent
    assert runs["corpus"].data.params == {"corpus.train": "5"}
    assert runs["corpus"].data.metrics == {"loss": 1.0}
    assert "mlflow.parentRunId" not in runs["alone"].data.tags
    assert runs["alone"].data.metrics == {"classifiers/real_and_synthetic/uar": 0.5}
    assert [runs[name].data.tags["data.dvc_md5"] for name in ("all", "corpus", "alone")] == [digest[::-1], digest[::-1], digest]
    assert runs["all"].data.tags["prefect.flow_run"] == "f"
    history = mlflow.MlflowClient().get_metric_history(runs["corpus"].info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]


def test_a_verdict_is_a_tag_of_the_stage_and_of_the_run_around_it(
    tracked_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tracked_workspace
    monkeypatch.chdir(workspace.root)
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    tracking.log_tags({"audit": "outside a run"})
    assert not Path("mlflow.db").exists(), "no run, no database"
    with tracking.pipeline_run(workspace, "all", parameters={}, tags={}), tracking.stage_run(workspace, "audit", parameters={}):
        tracking.log_tags({"audit": "failed: duplicates"})
    with tracking.stage_run(workspace, "alone", parameters={}):
        pass
    tags = {name: run.data.tags.get("audit") for name, run in finished_runs(workspace).items()}
    assert tags == {"all": "failed: duplicates", "audit": "failed: duplicates", "alone": None}


def test_an_error_marks_the_run_as_failed(tracked_workspace: Workspace) -> None:
    workspace = tracked_workspace
    with pytest.raises(ValueError, match="gate"), tracking.stage_run(workspace, "validation", parameters={}):
        raise ValueError("gate")
    assert finished_runs(workspace)["validation"].info.status == "FAILED"


def test_datasets_carry_the_digest_of_dvc_or_of_their_manifest(tracked_workspace: Workspace, tmp_path: Path) -> None:
    workspace = tracked_workspace
    digest = "0123456789abcdef0123456789abcdef.dir"
    (workspace.root / "data.dvc").write_text(yaml.safe_dump({"outs": [{"md5": digest, "path": "data/faces"}]}))
    development, synthesis = workspace.stage("corpus/development"), workspace.stage("synthesis")
    write_corpus(development, identities=7, images_per_identity=1, size=32)
    write_corpus(synthesis, identities=7, images_per_identity=1, size=32, seed=1)
    with tracking.stage_run(workspace, "classifiers", parameters={}):
        tracking.log_datasets(workspace, [development, synthesis, tmp_path / "configs"], corpus_source=workspace.data / "faces")
    with tracking.stage_run(workspace, "elsewhere", parameters={}):
        tracking.log_datasets(workspace, [development], corpus_source=Path("/data/affectnet"))
    runs = finished_runs(workspace)
    found = {entry.dataset.name: entry.dataset.digest for entry in runs["classifiers"].inputs.dataset_inputs}
    assert found["artifacts/corpus/development"] == digest
    assert set(found) == {"artifacts/corpus/development", "artifacts/synthesis"}
    assert digest not in (found["artifacts/synthesis"], runs["elsewhere"].inputs.dataset_inputs[0].dataset.digest)


def test_a_file_is_logged_while_the_run_goes_on_and_nowhere_without_one(tracked_workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "look.txt").write_text("faces")
    tracking.log_file(tmp_path / "look.txt", "looks")  # no run is open
    with tracking.stage_run(tracked_workspace, "generator", parameters={}):
        tracking.log_file(tmp_path / "look.txt", "looks")
        run = mlflow.active_run()
        assert run is not None
        assert [item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, "looks")] == ["looks/look.txt"]


def test_record_of_a_stage_is_logged_with_its_files(tracked_workspace: Workspace, tmp_path: Path) -> None:
    workspace = tracked_workspace
    from PIL import Image

    record = Record(tmp_path / "out")
    record.metric("topic/name", 0.25, low=0.2, high=0.3, n=4)
    record.figure("sheet", Image.new("RGB", (4, 4)), title="Sheet", caption="Black")
    record.save()
    with tracking.stage_run(workspace, "synthesis", parameters={}):
        tracking.log_record(tmp_path / "out")
    run = finished_runs(workspace)["synthesis"]
    assert run.data.metrics == {"topic/name": 0.25}
    paths = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert paths == {"figures", "metrics.json", "tables.json"}
    assert (workspace.mlruns / "artifacts" / run.info.run_id / "artifacts" / "figures" / "sheet.png").is_file()


def test_outside_a_run_nothing_is_logged_nor_imported() -> None:
    code = "import sys; from components import tracking; tracking.log_metrics({'loss': 1.0}, step=1); print('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_new_database_survives_processes_that_open_it_at_once(workspace: Workspace) -> None:
    code = (
        "import sys; from pathlib import Path; from components import tracking; from components.workspace import Workspace\n"
        "with tracking.stage_run(Workspace(Path(sys.argv[1])), sys.argv[2], parameters={}): tracking.log_metrics({'x': 1.0})"
    )
    names = ["first", "second"]
    command = [sys.executable, "-c", code, str(workspace.root)]
    running = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in names]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    assert set(finished_runs(workspace)) == set(names)
