"""prefect.yaml: every deployment names a flow that exists with parameters that load, and no path of a machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.templating import apply_values

from flows.pipeline import pipeline
from synfer.config import load_config

ROOT = Path(__file__).resolve().parents[2]
PREFECT: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())


@pytest.mark.parametrize("deployment", PREFECT["deployments"], ids=lambda deployment: deployment["name"])
def test_deployment_fits_its_flow(deployment: dict[str, Any]) -> None:
    assert deployment["entrypoint"] == "flows/pipeline.py:pipeline"
    pipeline.validate_parameters(deployment["parameters"])
    load_config(ROOT / "params.yaml", overlays=deployment["parameters"]["overlays"])
    assert deployment["work_pool"]["name"] in {pool["name"] for pool in PREFECT["definitions"]["pools"].values()}
    assert deployment["concurrency_limit"] == 1


def test_schedules_have_a_slug_and_a_time_zone() -> None:
    schedules = [schedule for deployment in PREFECT["deployments"] for schedule in deployment.get("schedules", [])]
    assert schedules
    assert all({"cron", "timezone", "slug"} <= set(schedule) for schedule in schedules)


def test_the_folder_is_that_of_whoever_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    (step,) = apply_values(PREFECT["pull"], {})
    assert step["prefect.deployments.steps.set_working_directory"]["directory"] == os.getcwd()
