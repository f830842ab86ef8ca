"""What a run of the pipeline says on the terminal: what its stages measured, and where to look for what they left."""

from __future__ import annotations

from components.record import Metric
from components.stages import STAGES
from components.workspace import Workspace
from flows.pipeline_run import headline, places
from synfer.config import Config


def metrics(stage: str, **values: float) -> dict[str, Metric]:
    return {f"{stage}/{name}": Metric(value) for name, value in values.items()}


def test_counts_shares_and_scores_are_told_apart() -> None:
    assert headline("rectification", metrics("rectification", kept=1.0, relabelled=0.0)) == "kept 100.0 % · relabelled 0.0 %"
    assert headline("corpus", metrics("corpus", images=1400, label_accuracy=1.0)) == "images 1,400 · label_accuracy 100.0 %"
    assert headline("feranno", metrics("feranno", val_uar=1.0, ece=0.04)) == "val_uar 1.000 · ece 0.040"
    assert headline("report", {}) == ""


def test_a_run_names_only_what_its_stages_have_left(workspace: Workspace) -> None:
    for path in (workspace.reports / "report.html", workspace.reports / "metrics.json"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (workspace.data / "synthetic" / "laptop").mkdir(parents=True)
    assert set(places(workspace, Config(), ["feranno", "synthesis", "rectification"])) == {"folder", "browser"}
    assert places(workspace, Config(), ["rectification"])["folder"] == "artifacts/rectification"
    workspace.stage("synthesis").mkdir(parents=True)
    found = places(workspace, Config(), list(STAGES))
    assert found["dataset"] == "data/synthetic/laptop"
    assert found["faces"] == "artifacts/synthesis"
    assert list(found) == ["report", "faces", "metrics", "dataset", "model", "browser"]
    (workspace.data / "synthetic" / "laptop").rmdir()
    assert set(places(workspace, Config(), ["report", "release"])) == {"report", "metrics", "browser"}
