"""The pipeline as a Prefect flow: corpus to registered model, every stage a task.

Tasks hold no logic: each runs its stage of `components.stages` and shows what it left. They hand over the folders they read, so that
Prefect's page shows the graph. DVC is the cache, hence `NO_CACHE`. Tried again is what may pass: an MLflow that does not answer, and
whatever the world does to the two stages that act on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run

from components.faults import TrackingError
from components.stages import STAGES
from flows.form import Overlay, Override, StageName
from flows.pipeline_run import PipelineRun
from flows.project import load_project
from flows.starts import check_starts
from synfer.errors import SynferError


def _worth_a_retry(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Bad input and a closed gate stay what they are; an MLflow that is away may come back, and what else the world did may pass."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TrackingError) or not isinstance(error, SynferError)


def _only_an_outage(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), TrackingError)


def _stage_task(name: str) -> Task[..., Path]:
    """The task of one stage: called with the run and the folders it reads, it gives the stage's folder.

    A second try of a stage whose folder stands in its place only logs what it measured.
    """

    @task(
        name=name,
        task_run_name=f"{list(STAGES).index(name) + 1:02d} {name}",
        description=f"components.{name}",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=2,
        retry_delay_seconds=10,
        retry_jitter_factor=0.5,
        retry_condition_fn=_only_an_outage if STAGES[name].in_dvc else _worth_a_retry,
    )
    def stage(run: PipelineRun, **read: Path) -> Path:
        return run.stage(name)

    return stage


corpus = _stage_task("corpus")
fer_models = _stage_task("fer_models")
generator = _stage_task("generator")
feranno = _stage_task("feranno")
synthesis = _stage_task("synthesis")
rectification = _stage_task("rectification")
validation = _stage_task("validation")
classifiers = _stage_task("classifiers")
evaluation = _stage_task("evaluation")
audit = _stage_task("audit")
report = _stage_task("report")
release = _stage_task("release")
registration = _stage_task("registration")


_FIRST, _LAST = next(iter(STAGES)), list(STAGES)[-1]
_MOST_KILLS = 50  # the journal counts those in which a stage got no further; this is for what dies before the first one


def _run_name() -> str:
    """`smoke from synthesis`, `laptop`: what was asked for."""
    asked = flow_run.get_parameters()
    name = "+".join(asked.get("overlays") or ["laptop"])
    first, last = asked.get("start", _FIRST), asked.get("stop", _LAST)
    return f"{name}{'' if first == _FIRST else f' from {first}'}{'' if last == _LAST else f' to {last}'}"


def _scheduled_day() -> str:
    """20261123: the day for which the run was scheduled, also where it waited or was started again after midnight."""
    return f"{flow_run.get_scheduled_start_time():%Y%m%d}"


@flow(name="pipeline", flow_run_name=_run_name, log_prints=False)
def pipeline(
    overlays: list[Overlay] = [],  # noqa: B006 - an empty list in Prefect's form; nobody changes it
    overrides: list[Override] = [],  # noqa: B006
    start: StageName = _FIRST,
    stop: StageName = _LAST,
    new_series: bool = False,
    publish: bool = True,
) -> None:
    """Corpus to registered model: generate faces, rectify and validate their labels, train on them, evaluate, audit, release, register.

    Args:
        overlays: Files of configs/ that change the laptop run, such as smoke or sd15_affectnet; later ones win.
        overrides: Single values, such as synthesis.images=700; they win over the overlays.
        start: First stage to run; what the earlier ones have left is used.
        stop: Last stage to run.
        new_series: Draw faces that no other day has drawn (synthesis.series is the date for which the run was scheduled, in UTC).
        publish: Whether stage release, where it is among the stages, publishes the dataset.
    """
    check_starts(_MOST_KILLS)
    series = [f"synthesis.series={_scheduled_day()}"] if new_series else []
    workspace, config = load_project(overlays, [*series, *overrides])
    run = PipelineRun(workspace, config, start=start, stop=stop, publish=publish, flow_run_id=str(flow_run.get_id()))
    with run.alone(), run.tracked(str(flow_run.get_name())):
        real = corpus(run)
        roles = fer_models(run, corpus=real)
        backbone = generator(run, corpus=real, fer_models=roles)
        annotator = feranno(run, corpus=real, generator=backbone)
        faces = synthesis(run, corpus=real, generator=backbone, fer_models=roles)
        labels = rectification(run, corpus=real, generator=backbone, synthesis=faces, feranno=annotator, fer_models=roles)
        gate = validation(run, rectification=labels, synthesis=faces)
        trained = classifiers(run, corpus=real, synthesis=faces, rectification=labels, validation=gate)
        measured = evaluation(
            run, corpus=real, classifiers=trained, fer_models=roles, generator=backbone, synthesis=faces, rectification=labels
        )
        audited = audit(
            run, corpus=real, fer_models=roles, generator=backbone, synthesis=faces, rectification=labels, evaluation=measured
        )
        report(run, evaluation=measured, audit=audited)
        release(run, synthesis=faces, rectification=labels, validation=gate, evaluation=measured, audit=audited)
        registration(run, corpus=real, evaluation=measured, classifiers=trained, validation=gate, audit=audited)
    run.finish()
