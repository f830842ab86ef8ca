"""The one table of stages, and how a stage runs; the command line, the Prefect flow and `dvc.yaml` all come from here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from components.faults import told
from components.journal import Journal
from components.made_with import write_settings
from components.partial import close_partial, fingerprint, open_partial, partial_folder
from components.workspace import Workspace
from synfer.config import EXECUTION, Config, Section
from synfer.errors import SynferError
from synfer.files import replace_folder
from synfer.vocabulary import unknown

TRAIN_HERE = "train"
"""Value of `fer_models.source` that names no folder."""


class StageError(SynferError):
    """An unknown stage, or one whose inputs are missing; the message says what would make them."""


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: `components.<name>.run`.

    `reads` are folders under `artifacts/`, handed over by their last path component; a stage that reads `whole` gets the artifacts folder
    itself. `source` is the key of the stage's section that names a folder outside `artifacts/`. Stages that act on the world (a release, a
    registered model) are not `in_dvc`: a cache hit would skip them.
    """

    name: str
    reads: tuple[str, ...] = ()
    source: str | None = None
    in_dvc: bool = True
    whole: bool = False

    @property
    def module(self) -> str:
        """Dotted name of the component."""
        return f"components.{self.name}"


_REAL, _TEST = "corpus/development", "corpus/test"
_TABLE = (
    Stage("corpus", source="source"),
    Stage("fer_models", reads=(_REAL,), source="source"),
    Stage("generator", reads=(_REAL, "fer_models"), source="backbone"),
    Stage("feranno", reads=(_REAL, "generator")),
    Stage("synthesis", reads=(_REAL, "generator", "fer_models")),
    Stage("rectification", reads=(_REAL, "generator", "synthesis", "feranno", "fer_models")),
    Stage("validation", reads=("rectification", "synthesis")),
    Stage("classifiers", reads=(_REAL, "synthesis", "rectification", "validation")),
    Stage("evaluation", reads=(_TEST, _REAL, "classifiers", "fer_models", "generator", "synthesis", "rectification")),
    Stage("audit", reads=(_REAL, "fer_models", "generator", "synthesis", "rectification", "evaluation")),
)
STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        *_TABLE,
        Stage("report", reads=tuple(stage.name for stage in _TABLE), whole=True),
        Stage("release", reads=("rectification", "synthesis", "validation", "evaluation", "audit"), in_dvc=False),
        Stage("registration", reads=("evaluation", "classifiers", "validation", "audit", _TEST), in_dvc=False),
    )
}
"""Every stage in the order of the pipeline."""


def find_stage(name: str) -> Stage:
    """The stage of this name; raises StageError with the known ones."""
    if name not in STAGES:
        raise StageError(unknown("stage", name, STAGES))
    return STAGES[name]


def run_stage(
    name: str, config: Config, workspace: Workspace, *, tags: Mapping[str, str] | None = None, journal: Journal | None = None
) -> Path:
    """Run one stage and put its finished folder in the place of an older one; returns `artifacts/<stage>`.

    The stage works in `artifacts/.<stage>.partial`, which an interrupted call with the same settings and inputs leaves to the next one.
    What it measures goes to a run of its own in MLflow, a child where a pipeline run is open, after its folder stands in its place. With a
    `journal`, a stage that is finished there is not run again, and only what MLflow has not got yet is logged. Raises StageError before any
    work if an input is missing; FullDiskError, DamagedInputError or TrackingError for what the world did meanwhile.
    """
    from components import tracking

    stage, common = find_stage(name), config.common
    section = check_stage(name, config, workspace)
    folders = _folders(stage, workspace, section)
    made_from = fingerprint_of(stage, config, workspace)
    parameters = {name: section.model_dump(mode="json"), "common": common.model_dump(mode="json")}
    _set_threads(common.threads)
    source = workspace.resolve(config.corpus.source)
    run = tracking.stage_run(workspace, name, parameters=parameters, tags=tags, corpus_source=source)
    with told(workspace, partial_folder(workspace.stage(name))), run:
        tracking.log_datasets(workspace, folders, corpus_source=source)
        if journal is None or not journal.has(name, made_from):
            _make(stage, section, config, workspace, made_from, journal)
        tracking.log_record(workspace.stage(name))
    if journal is not None:
        journal.logged(name)
    return workspace.stage(name)


def check_stage(name: str, config: Config, workspace: Workspace) -> Section:
    """The section that a stage receives; raises StageError if the stage is unknown or an input of it is missing."""
    stage = find_stage(name)
    stage_inputs(stage, workspace)
    return resolved_section(stage, config, workspace)


def _make(stage: Stage, section: Section, config: Config, workspace: Workspace, made_from: str, journal: Journal | None) -> None:
    """Run the stage's component, and put what it leaves, with the settings, in the place of `artifacts/<stage>`."""
    from components import tracking

    out = open_partial(workspace.stage(stage.name), made_from)
    if journal is not None:
        journal.begin(stage.name, made_from)
    started = time.perf_counter()
    import_module(stage.module).run(section, config.common, **stage_inputs(stage, workspace), out=out)
    tracking.log_metrics({"seconds": time.perf_counter() - started})
    write_settings(stage.name, config, out)
    close_partial(out)
    replace_folder(out, workspace.stage(stage.name))
    if journal is not None:
        journal.finished(stage.name, made_from)


def fingerprint_of(stage: Stage, config: Config, workspace: Workspace) -> str:
    """Digest of what a stage is made from: its settings, and name, size and time of every input file."""
    section = resolved_section(stage, config, workspace)
    what = section.model_dump(mode="json", exclude=set(EXECUTION))  # more actors go on with what fewer have finished
    settings = {"section": what, "common": config.common.model_dump(mode="json")}
    return fingerprint(settings, _folders(stage, workspace, section))


def stage_inputs(stage: Stage, workspace: Workspace) -> dict[str, Path]:
    """Keyword arguments of a stage's `run`: its input folders by name; raises StageError naming the first that is missing and its maker."""
    for read in stage.reads:
        _check_input(stage, read, workspace)
    return {"artifacts": workspace.artifacts} if stage.whole else {Path(read).name: workspace.stage(read) for read in stage.reads}


def stages_between(start: str, stop: str, workspace: Workspace) -> list[str]:
    """Names of the stages from `start` to `stop`; raises StageError if one of them needs what an earlier stage has not left."""
    names = list(STAGES)
    first, last = names.index(find_stage(start).name), names.index(find_stage(stop).name)
    if first > last:
        raise StageError(f"stage {start} comes after stage {stop}; the order is {', '.join(names)}")
    wanted = names[first : last + 1]
    for name in wanted:
        for read in STAGES[name].reads:
            if read.split("/")[0] not in wanted:
                _check_input(STAGES[name], read, workspace)
    return wanted


def upstream(names: Iterable[str]) -> list[str]:
    """The other stages whose folders those of `names` are made from, directly or not, in the order of the pipeline."""
    asked = set(names)
    found = set(asked)
    for stage in reversed(STAGES.values()):
        if stage.name in found:
            found |= {read.split("/")[0] for read in stage.reads}
    return [name for name in STAGES if name in found - asked]


def resolved_section(stage: Stage, config: Config, workspace: Workspace) -> Section:
    """The section that a stage receives, its source folder as an absolute path; the whole Config for a stage without one.

    Raises StageError if the source folder does not exist.
    """
    if stage.name not in Config.model_fields:
        return config
    section: Section = getattr(config, stage.name)
    if stage.source is None or getattr(section, stage.source) == TRAIN_HERE:
        return section
    folder = workspace.resolve(getattr(section, stage.source))
    if not folder.is_dir():
        hint = "; bring it with: dvc pull data.dvc" if folder.is_relative_to(workspace.data) else ""
        raise StageError(f"{stage.name}.{stage.source}: the folder {getattr(section, stage.source)} does not exist{hint}")
    return section.model_copy(update={stage.source: str(folder)})


def _check_input(stage: Stage, read: str, workspace: Workspace) -> None:
    if not workspace.stage(read).is_dir():
        maker = read.split("/")[0]
        raise StageError(f"{stage.name} needs artifacts/{read}, which does not exist; make it with: synfer run {maker}")


def _folders(stage: Stage, workspace: Workspace, section: Section) -> list[Path]:
    """Every folder that a stage reads."""
    source = getattr(section, stage.source) if stage.source else TRAIN_HERE
    return [workspace.stage(read) for read in stage.reads] + ([Path(source)] if source != TRAIN_HERE else [])


def _set_threads(threads: int) -> None:
    """Limit torch's threads; 0 leaves its own choice."""
    if threads:
        import torch

        torch.set_num_threads(threads)
