"""dvc.yaml is the stage table, and what it lists exists."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest
import yaml

from components.dvc_pipeline import as_yaml, code_of, pipeline
from components.stages import STAGES


def test_dvc_yaml_is_made_from_the_stage_table(root: Path) -> None:
    assert (root / "dvc.yaml").read_text() == as_yaml(), "renew it with: python -m components.dvc_pipeline > dvc.yaml"


def test_every_stage_but_those_that_act_on_the_world() -> None:
    stages = pipeline()["stages"]
    assert list(stages) == [name for name in STAGES if name not in ("release", "registration")]
    for name, entry in stages.items():
        assert entry["cmd"].endswith(f"python -m flows.cli run {name}")
        assert {f"artifacts/{read}" for read in STAGES[name].reads} <= set(entry["deps"])


@pytest.mark.parametrize("name", STAGES)
def test_code_dependencies_exist_and_reach_the_helpers(root: Path, name: str) -> None:
    code = code_of(STAGES[name])
    assert all((root / path).exists() for path in code)
    assert {f"components/{name}.py", "components/record.py", "synfer/files.py"} <= set(code)
    assert not any(path.startswith("flows") for path in code)


def test_figures_of_reports_are_not_cached() -> None:
    assert pipeline()["stages"]["report"]["metrics"] == [{"reports/metrics.json": {"cache": False}}]


def test_dvc_is_silent_and_keeps_the_seed_in_the_repository(root: Path) -> None:
    config = configparser.ConfigParser()
    config.read(root / ".dvc" / "config")
    assert config["core"]["analytics"] == "false"
    assert config["core"]["check_update"] == "false"
    assert config["'remote \"seed\"'"]["url"] == "seed"
    committed = subprocess.run(["git", "show", "HEAD:data.dvc"], cwd=root, capture_output=True, text=True, check=True).stdout
    (out,) = yaml.safe_load(committed)["outs"]  # a release of this machine, which a clone could not pull, is not for the repository
    assert (out["path"], out["remote"]) == ("data/faces", "seed")
