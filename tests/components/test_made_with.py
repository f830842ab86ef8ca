"""What a stage was made with is kept beside what it left, told where a later run asks for something else, and quoted by the report."""

from __future__ import annotations

import pytest

from components.made_with import NAME, all_settings, other_settings, read_settings, settings_of, write_settings
from components.results_table import check_run
from components.stages import STAGES, upstream
from components.workspace import Workspace, WorkspaceError
from synfer.config import Config, load_config
from synfer.files import write_json


def asked(workspace: Workspace, *overrides: str) -> Config:
    return load_config(workspace.params, overrides=overrides)


def test_other_settings_are_one_line_a_stage_with_three_keys_at_most(workspace: Workspace) -> None:
    made = asked(workspace, "synthesis.images=56", "generator.adapt=full")
    for stage in ("corpus", "generator", "synthesis"):
        write_settings(stage, made, workspace.stage(stage))
    stages = ("corpus", "fer_models", "generator", "synthesis")  # fer_models left no settings: nothing is known, nothing is told
    assert other_settings(stages, made, workspace.artifacts) == []
    assert other_settings(stages, asked(workspace, "synthesis.images=2800", "generator.adapt=full"), workspace.artifacts) == [
        "synthesis was made with images=56, now 2800"
    ]
    other = asked(workspace, "synthesis.layout_steps=7", "synthesis.batch_size=1", "common.seed=4", "synthesis.layout=inversion")
    assert other_settings(stages, other, workspace.artifacts) == [
        "corpus was made with common.seed=0, now 4",
        "generator was made with adapt=full, now none; common.seed=0, now 4",
        "synthesis was made with batch_size=70, now 1; images=56, now 1400; layout=none, now inversion; and 2 more",
    ]


def test_what_changes_no_result_is_not_kept(workspace: Workspace) -> None:
    here = asked(workspace)
    there = asked(workspace, "synthesis.executor=ray", "synthesis.actors=8", "common.device=cuda", "common.threads=2")
    for stage in ("corpus", "synthesis"):
        write_settings(stage, here, workspace.artifacts / "here" / stage)
        write_settings(stage, there, workspace.artifacts / "there" / stage)
        kept = [workspace.artifacts / place / stage / NAME for place in ("here", "there")]
        assert kept[0].read_bytes() == kept[1].read_bytes()
    assert str(workspace.root) not in kept[0].read_text(), "another checkout leaves the same bytes"
    assert read_settings(kept[0].parent) == settings_of("synthesis", here)


def test_a_key_that_only_one_of_both_knows_is_no_difference(workspace: Workspace) -> None:
    config = asked(workspace)
    write_settings("corpus", config, workspace.stage("corpus"))
    kept = workspace.stage("corpus") / NAME
    kept.write_text(kept.read_text().replace('"train"', '"trained"'))
    assert other_settings(["corpus"], config, workspace.artifacts) == []


def test_common_settings_are_quoted_once_unless_stages_differ(workspace: Workspace) -> None:
    one, two = asked(workspace, "synthesis.images=56"), asked(workspace, "common.seed=4")
    stages = ("corpus", "generator", "synthesis")
    for stage in ("corpus", "synthesis"):
        write_settings(stage, one, workspace.stage(stage))
    found = all_settings(stages, workspace.artifacts)
    assert list(found) == ["common", *stages]
    assert (found["common"]["seed"], found["synthesis"]["images"], found["generator"]) == (0, 56, "unknown")
    write_settings("generator", two, workspace.stage("generator"))
    found = all_settings(stages, workspace.artifacts)
    assert list(found) == ["common of corpus, synthesis", "common of generator", *stages]
    assert found["common of generator"]["seed"] == 4


def test_a_stage_builds_on_what_its_inputs_were_made_from() -> None:
    assert upstream(["rectification"]) == ["corpus", "fer_models", "generator", "feranno", "synthesis"]
    assert upstream(["corpus", "fer_models", "generator", "feranno", "synthesis", "rectification"]) == []
    assert upstream(["classifiers"])[-2:] == ["rectification", "validation"]


def test_results_are_refused_of_another_run_than_params_yaml_describes(workspace: Workspace) -> None:
    check_run(workspace)  # a checkout whose report is older than this file
    stages = STAGES["report"].reads
    for overlays in ((), ("smoke",)):
        config = load_config(workspace.params, overlays=overlays)
        for stage in stages:
            write_settings(stage, config, workspace.stage(stage))
        write_json(workspace.reports / NAME, all_settings(stages, workspace.artifacts))
        if not overlays:
            check_run(workspace)
    with pytest.raises(WorkspaceError, match=r"metrics\.json is not of the run that params\.yaml describes \(.*, now .*; and \d+ more\)"):
        check_run(workspace)
    write_json(workspace.reports / NAME, {"common of corpus": {"seed": 5}, "common of generator": {"seed": 0}, "corpus": "unknown"})
    with pytest.raises(WorkspaceError, match=r"\(common\.seed=5, now 0\)"):
        check_run(workspace)
