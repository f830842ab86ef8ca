"""A user's own corpus, a miniature FER2013: imported, and `synfer study scaling` pointed at it with one option, under Prefect."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest

from components import tracking
from components.imports.dataset import import_dataset
from components.workspace import Workspace
from synfer.datasets.fer2013 import LABELS, LIST
from synfer.faces.face import draw_face
from synfer.faces.renderer import render
from synfer.seeding import derive_seed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

COUNTS = {"Training": 12, "PublicTest": 4, "PrivateTest": 4}  # faces of every class
SMALL = (
    "studies.labelled=0.5", "studies.steps=3", "studies.seeds=1", "fer_models.epochs=1", "generator.steps=2", "feranno.epochs=1",
    "synthesis.num_inference_steps=2",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """The project and what the command printed."""

    workspace: Workspace
    output: str


def write_fer2013(root: Path) -> Path:
    """`fer2013.csv` in the exact layout, of faces that the renderer draws in 48 grey pixels."""
    wanted = [(usage, label) for usage, count in COUNTS.items() for _ in range(count) for label in LABELS]
    faces = [draw_face(derive_seed("mini", row), identity=row, expression=LABELS[label]) for row, (_, label) in enumerate(wanted)]
    grey = render(faces, size=48).mean(axis=3).round().astype(np.uint8)
    root.mkdir(parents=True)
    with (root / LIST).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["emotion", "pixels", "Usage"])
        rows.writerows([label, " ".join(map(str, pixels.ravel())), usage] for (usage, label), pixels in zip(wanted, grey, strict=True))
    return root


def synfer(workspace: Workspace, *arguments: str) -> str:
    """What a command printed; fails with its errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    settings = [part for value in SMALL for part in ("--set", value)]
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, *settings], cwd=workspace.root, capture_output=True, text=True,
        env={**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The finished study on the imported corpus."""
    place = Workspace(tmp_path_factory.mktemp("study"))
    for name in ("params.yaml", "configs", "assets"):
        (place.root / name).symlink_to(root / name)
    import_dataset("fer2013", write_fer2013(place.root / "downloads" / "fer2013"), place.data / "mine")
    return Run(place, synfer(place, "study", "scaling", "--preset", "smoke", "--corpus", "data/mine"))


def test_every_arm_has_its_interval(run: Run) -> None:
    found = json.loads((run.workspace.reports / "studies" / "smoke" / "mine" / "scaling.json").read_text())
    assert found["corpus"] == "data/mine"
    assert {"real", "synthetic 1x", "synthetic 2x", "real + synthetic 2x", "pseudo-labels 1x"} <= set(found["arms"])
    for measures in found["arms"].values():
        assert set(measures["uar"]) == {"value", "low", "high", "n"}
        assert measures["uar"]["n"] == 28
        assert 0 <= measures["uar"]["low"] <= measures["uar"]["high"] <= 1
    assert found["comparisons"][0]["ours"] == "synthetic 2x"
    assert (run.workspace.reports / "studies" / "smoke" / "mine" / "scaling.html").is_file()


def test_models_have_learned_from_the_labelled_part_of_the_corpus(run: Run) -> None:
    (pool,) = (run.workspace.studies / "pool").iterdir()
    roles = json.loads((pool / "fer_models" / "roles.json").read_text())
    assert sum(role["trained_on"]["images"] for role in roles.values()) == 42
    assert json.loads((pool / "generator" / "backbone" / "card.json").read_text())["generator"]["adapt"] == "full"


def test_the_study_is_a_run_with_a_child_a_cell(run: Run) -> None:
    tracking.connect(run.workspace)
    experiment = mlflow.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    runs = mlflow.MlflowClient().search_runs([experiment.experiment_id])
    (parent,) = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    assert parent.data.tags["study"] == "scaling"
    cells = [each for each in runs if "cell" in each.data.tags]
    found = json.loads((run.workspace.reports / "studies" / "smoke" / "mine" / "scaling.json").read_text())
    assert {each.data.tags["arm"] for each in cells} == set(found["arms"])
    assert {each.data.tags["mlflow.parentRunId"] for each in runs if each is not parent} == {parent.info.run_id}
    assert {each.info.status for each in runs} == {"FINISHED"}
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(parent.info.run_id)}
    assert {"figures", "tables.json", "scaling.html"} <= files


def test_a_finished_study_has_nothing_left_to_do(run: Run) -> None:
    told = synfer(run.workspace, "study", "scaling", "--preset", "smoke", "--corpus", "data/mine", "--dry-run")
    assert "before:" not in told
    assert "0 faces to draw, 0 trainings" in told
    assert re.search(r"real +│ +42 labelled +│ +1 +│ +1 +│", told)
