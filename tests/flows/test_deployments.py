"""prefect.yaml: every deployment names a flow that exists with parameters that load, and no path of a machine."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.templating import apply_values

from synfer.config import load_config

ROOT = Path(__file__).resolve().parents[2]
PREFECT: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())


@pytest.mark.parametrize("deployment", PREFECT["deployments"], ids=lambda deployment: deployment["name"])
def test_deployment_fits_its_flow(deployment: dict[str, Any]) -> None:
    file, name = deployment["entrypoint"].split(":")
    flow = getattr(import_module(file.removesuffix(".py").replace("/", ".")), name)
    parameters = deployment.get("parameters", {})
    flow.validate_parameters(parameters)
    load_config(ROOT / "params.yaml", overlays=parameters.get("overlays", []))
    assert deployment["work_pool"]["name"] in {pool["name"] for pool in PREFECT["definitions"]["pools"].values()}
    limit = deployment["concurrency_limit"]
    assert (limit if isinstance(limit, int) else limit["limit"]) == 1


def test_schedules_have_a_slug_and_daily_ones_a_time_zone() -> None:
    schedules = [schedule for deployment in PREFECT["deployments"] for schedule in deployment.get("schedules", [])]
    assert {"cron", "interval"} <= {key for schedule in schedules for key in schedule}
    assert all("slug" in schedule and ("timezone" in schedule or "cron" not in schedule) for schedule in schedules)


def test_the_folder_is_that_of_whoever_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    (step,) = apply_values(PREFECT["pull"], {})
    assert step["prefect.deployments.steps.set_working_directory"]["directory"] == os.getcwd()
