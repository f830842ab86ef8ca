"""prefect.yaml: every deployment names a flow that exists with parameters that load, and no path of a machine."""

from __future__ import annotations

import json
import os
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import prefect.settings
import pytest
import yaml
from prefect import Flow
from prefect.flow_engine import MINIMUM_HEARTBEAT_INTERVAL
from prefect.utilities.schema_tools import ValidationError, validate
from prefect.utilities.templating import apply_values, find_placeholders

from components import tracking
from components.stages import STAGES
from components.studies.catalogue import NAMES
from flows import automations, zombies
from flows.study_run import PRESETS
from flows.work_pools import CPU, WRITERS
from synfer.config import load_config, overlay_names

ROOT = Path(__file__).resolve().parents[2]
PREFECT: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())


@pytest.mark.parametrize("deployment", PREFECT["deployments"], ids=lambda deployment: deployment["name"])
def test_deployment_fits_its_flow(deployment: dict[str, Any]) -> None:
    flow = flow_of(deployment)
    parameters = deployment.get("parameters", {})
    flow.validate_parameters(parameters)
    load_config(ROOT / "params.yaml", overlays=parameters.get("overlays", []))
    assert deployment["work_pool"]["name"] in {pool["name"] for pool in PREFECT["definitions"]["pools"].values()}
    pool = deployment["work_pool"]
    writes = pool["name"] == CPU and deployment["name"] != "watch-promotion"
    assert pool.get("work_queue_name") == (WRITERS if writes else None)
    beat = int(pool["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert MINIMUM_HEARTBEAT_INTERVAL <= beat <= zombies.SILENCE.total_seconds() / 4
    limit = deployment["concurrency_limit"]
    assert (limit if isinstance(limit, int) else limit["limit"]) == 1


def flow_of(deployment: dict[str, Any]) -> Flow[..., Any]:
    file, name = deployment["entrypoint"].split(":")
    flow: Flow[..., Any] = getattr(import_module(file.removesuffix(".py").replace("/", ".")), name)
    return flow


@pytest.mark.parametrize("deployment", PREFECT["deployments"], ids=lambda deployment: deployment["name"])
def test_the_form_explains_every_parameter_and_offers_what_is_known(deployment: dict[str, Any]) -> None:
    flow = flow_of(deployment)
    asked = flow.parameters.properties
    assert all(entry["description"] for entry in asked.values()), "docstrings explain parameters under Args"
    assert all("default" in entry or name in deployment["parameters"] for name, entry in asked.items())
    assert not any("anyOf" in entry for entry in asked.values()), "no choice between kinds of values"
    choices = {"start": list(STAGES), "stop": list(STAGES), "name": list(NAMES), "preset": list(PRESETS)}
    assert {name: entry["enum"] for name, entry in asked.items() if "enum" in entry} == {k: v for k, v in choices.items() if k in asked}
    assert all(entry["items"]["enum"] == overlay_names(ROOT / "configs") for name, entry in asked.items() if name == "overlays")
    validate(deployment.get("parameters", {}), flow.parameters.model_dump(), raise_on_error=True)


def test_the_form_refuses_what_is_unknown() -> None:
    schema = flow_of(PREFECT["deployments"][0]).parameters.model_dump()
    for wrong in ({"overlays": ["smok"]}, {"overrides": ["synthesis.images:3"]}, {"start": "synthesise"}):
        with pytest.raises(ValidationError):
            validate(wrong, schema, raise_on_error=True)
    validate({"overrides": ["synthesis.images=3", "common.expressions=[anger,fear]"]}, schema, raise_on_error=True)


def test_schedules_have_a_slug_and_daily_ones_a_time_zone() -> None:
    schedules = [schedule for deployment in PREFECT["deployments"] for schedule in deployment.get("schedules", [])]
    assert {"cron", "interval"} <= {key for schedule in schedules for key in schedule}
    assert all("slug" in schedule and ("timezone" in schedule or "cron" not in schedule) for schedule in schedules)


def test_the_folder_is_that_of_whoever_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    (step,) = apply_values(PREFECT["pull"], {})
    assert step["prefect.deployments.steps.set_working_directory"]["directory"] == os.getcwd()


def test_the_kubernetes_template_fits_the_deployments_and_names_what_exists() -> None:
    template = json.loads((ROOT / "docs" / "kubernetes_pool.json").read_text())
    document = (ROOT / "docs" / "kubernetes.md").read_text()
    variables = template["variables"]["properties"]
    used = {found.name for found in find_placeholders(template["job_configuration"])}
    assert used == set(variables)
    for deployment in PREFECT["deployments"]:
        given = deployment["work_pool"]["job_variables"]
        validate(given, {**template["variables"], "required": []}, raise_on_error=True)
        assert given.keys() <= variables.keys()
        pool, queue = deployment["work_pool"]["name"], deployment["work_pool"].get("work_queue_name")
        assert f"prefect work-pool create {pool} --type kubernetes" in document, "deploying stops at a pool that does not exist"
        assert queue is None or f"prefect work-queue create {queue} --pool {pool} " in document
    claim = yaml.safe_load(textwrap.dedent(document.split("create secret")[0].split("\n\n")[-2]))
    assert claim["metadata"] == {"name": variables["claim"]["default"], "namespace": variables["namespace"]["default"]}
    container = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"][0]
    folder = container["workingDir"]
    assert f"PWD={folder} prefect deploy --all" in document
    assert f"WORKDIR {folder}\nENV PYTHONPATH={folder}" in (ROOT / "Dockerfile").read_text()
    assert f"create secret generic {variables['secret']['default']} --from-env-file=configs/team.env" in document


def test_the_example_of_an_environment_names_what_is_read() -> None:
    lines = (ROOT / "configs" / "team.env.example").read_text().splitlines()
    names = {line.lstrip("#").split("=")[0] for line in lines if re.match(r"#?[A-Z_0-9]+=", line)}
    assert {tracking.URI, tracking.ARTIFACTS, automations.NOTIFY_URL} <= names
    assert all(hasattr(prefect.settings, name) for name in names if name.startswith("PREFECT_"))
    assert not hasattr(prefect.settings, "PREFECT_DATABASE_URL"), "an unknown name is seen"
