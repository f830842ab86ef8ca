"""The stage table and how a stage runs: inputs are checked first, unfinished work is reused or dropped, results appear whole."""

from __future__ import annotations

import inspect
import os
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from components.embedded_corpus import write_corpus
from components.faults import DamagedInputError
from components.made_with import read_settings, settings_of
from components.partial import close_partial, fingerprint, open_partial
from components.stages import STAGES, Stage, StageError, find_stage, resolved_section, run_stage, stage_inputs, stages_between
from components.workspace import Workspace, WorkspaceError
from synfer.config import Config, load_config
from synfer.files import whole_file
from synfer.images import shard_path
from synfer.manifest import FILE_NAME


def test_every_stage_reads_only_what_an_earlier_one_makes() -> None:
    made: set[str] = set()
    for stage in STAGES.values():
        assert {read.split("/")[0] for read in stage.reads} <= made
        made.add(stage.name)


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_component_takes_what_the_table_hands_over(stage: Stage) -> None:
    parameters = inspect.signature(import_module(stage.module).run).parameters
    handed = {"artifacts"} if stage.whole else {Path(read).name for read in stage.reads}
    assert set(list(parameters)[2:]) == handed | {"out"}
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in list(parameters.values())[2:])


def test_unknown_stage_and_missing_input_are_named(workspace: Workspace) -> None:
    with pytest.raises(StageError, match=r"unknown stage 'syntesis' \(did you mean 'synthesis'\?\); known: corpus, "):
        find_stage("syntesis")
    with pytest.raises(StageError, match=r"classifiers needs artifacts/corpus/development, which does not exist; .* synfer run corpus"):
        stage_inputs(STAGES["classifiers"], workspace)
    with pytest.raises(StageError, match=r"corpus.source: the folder data/faces does not exist; bring it with: dvc pull data.dvc"):
        run_stage("corpus", Config(), workspace)
    assert not workspace.artifacts.exists()


def test_a_later_start_needs_all_that_earlier_stages_left(workspace: Workspace) -> None:
    for read in STAGES["evaluation"].reads:
        workspace.stage(read).mkdir(parents=True, exist_ok=True)
    with pytest.raises(StageError, match="report needs artifacts/feranno"):
        stages_between("evaluation", "registration", workspace)
    assert stages_between("evaluation", "evaluation", workspace) == ["evaluation"]
    for name in STAGES:
        workspace.stage(name).mkdir(exist_ok=True)
    assert stages_between("evaluation", "registration", workspace) == ["evaluation", "audit", "report", "release", "registration"]
    assert stages_between("corpus", "registration", workspace) == list(STAGES)
    with pytest.raises(StageError, match="stage release comes after stage corpus; the order is corpus, fer_models, "):
        stages_between("release", "corpus", workspace)


def test_source_paths_are_absolute_and_train_is_none(workspace: Workspace) -> None:
    (workspace.root / "assets" / "fer").mkdir(parents=True)
    section = resolved_section(STAGES["fer_models"], Config(), workspace)
    assert section.model_dump()["source"] == str(workspace.root / "assets" / "fer")
    here = load_config(workspace.params, overrides=["fer_models.source=train"])
    assert resolved_section(STAGES["fer_models"], here, workspace).model_dump()["source"] == "train"
    assert resolved_section(STAGES["report"], here, workspace) is here


def test_workspace_is_found_from_inside(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> None:
    inside = workspace.root / "a" / "b"
    inside.mkdir(parents=True)
    assert Workspace.find(inside) == workspace
    with pytest.raises(WorkspaceError, match=r"no params\.yaml in"):
        Workspace.find(tmp_path_factory.mktemp("elsewhere"))


def test_partial_folder_is_reused_for_the_same_work_only(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("1")
    first = fingerprint({"images": 3}, [source])
    partial = open_partial(tmp_path / "out", first)
    (partial / "shard").write_text("finished")
    assert (open_partial(tmp_path / "out", first) / "shard").is_file()
    assert not (open_partial(tmp_path / "out", fingerprint({"images": 4}, [source])) / "shard").exists()
    os.utime(source / "a", ns=(1, 1))
    assert fingerprint({"images": 3}, [source]) != first
    with whole_file(partial / "classifier" / "shard") as temporary:
        temporary.write_text("whole")
        shutil.copy(temporary, temporary.with_name(f"{temporary.name.removesuffix('.tmp')}7.tmp"))  # what a killed call leaves
    close_partial(partial)
    assert {path.name for path in partial.rglob("*")} == {"classifier", "shard"}


def test_corpus_runs_and_an_older_result_survives_bad_input(tracked_workspace: Workspace, root: Path) -> None:
    workspace = tracked_workspace
    shutil.copy(root / "data.dvc", workspace.root)  # that data/faces can be brought back is told by the registry
    faces = workspace.data / "faces"
    write_corpus(faces, identities=21, images_per_identity=7, size=32)
    config = load_config(workspace.params, overrides=["common.image_size=32"])
    folder = run_stage("corpus", config, workspace)
    assert folder == workspace.stage("corpus")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert sorted(path.name for path in workspace.artifacts.iterdir()) == ["corpus"]
    assert not (folder / "fingerprint.json").exists()
    assert read_settings(folder) == settings_of("corpus", config)

    shard = shard_path(faces, 0)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DamagedInputError, match=r"images-00000.parquet is damaged: .*; bring it back with: dvc checkout"):
        run_stage("corpus", config, workspace)
    (faces / FILE_NAME).write_bytes(b"no parquet")
    with pytest.raises(DamagedInputError, match=r"manifest\.parquet is damaged: .*; bring it back with: dvc checkout --force data/faces"):
        run_stage("corpus", config, workspace)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
