"""MLflow: a run a stage, under a parent where a whole pipeline runs; SQLite in `mlruns/mlflow.db`, files in `mlruns/artifacts`.

A team's database or server and its storage are named by `SYNFER_MLFLOW_URI` and `SYNFER_MLFLOW_ARTIFACTS`, see `configs/team.env.example`.
A new SQLite database that several processes open at once is destroyed for good, so that the first opening happens under a file lock.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from components.faults import is_outage, outages_told
from components.lineage import DATA_TAG, EMBEDDED, data_digests, lineage_tags
from components.record import read_metrics
from components.workspace import Workspace
from synfer.files import locked, sha256
from synfer.manifest import FILE_NAME

EXPERIMENT = "synfer"
# Not MLflow's own name: `mlflow.set_tracking_uri` writes that one, and a second project in the same process would inherit it.
URI, ARTIFACTS = "SYNFER_MLFLOW_URI", "SYNFER_MLFLOW_ARTIFACTS"
_DIGEST_CHARACTERS = 36  # MLflow's limit; DVC's `<md5>.dir` fits exactly
_BATCH = 100  # parameters a call of MLflow's batch interface
_unsent: list[Callable[[], object]] = []  # what the open stage could not log while MLflow did not answer


def store_uri(workspace: Workspace) -> str:
    """URI of the tracking and model registry database, or of a server that has one; it may hold a password."""
    return os.environ.get(URI) or f"sqlite:///{workspace.mlruns / 'mlflow.db'}"


def artifact_location(workspace: Workspace) -> str | None:
    """URI under which a new experiment keeps its files; None leaves it to the server."""
    if os.environ.get(ARTIFACTS):
        return os.environ[ARTIFACTS]
    return None if store_uri(workspace).startswith("http") else (workspace.mlruns / "artifacts").resolve().as_uri()


def server_environment(workspace: Workspace) -> dict[str, str]:
    """What `mlflow server` must know; in the environment, for a command line with a password is seen by every user of the machine."""
    location = artifact_location(workspace)
    return {"MLFLOW_BACKEND_STORE_URI": store_uri(workspace)} | ({"MLFLOW_DEFAULT_ARTIFACT_ROOT": location} if location else {})


def connect(workspace: Workspace) -> None:
    """Point MLflow to the project's database, making it and the experiment the first time; raises TrackingError if it does not answer."""
    import mlflow

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("alembic", "mlflow.store", "mlflow.tracking", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.WARNING)
    workspace.mlruns.mkdir(exist_ok=True)
    mlflow.set_tracking_uri(store_uri(workspace))
    with outages_told(), locked(workspace.mlruns / ".lock"):
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            mlflow.create_experiment(EXPERIMENT, artifact_location=artifact_location(workspace))
        mlflow.set_experiment(EXPERIMENT)


@contextmanager
def pipeline_run(
    workspace: Workspace, name: str, *, parameters: Mapping[str, Any], tags: Mapping[str, str], continues: str = ""
) -> Iterator[str]:
    """The parent run of one pipeline run; stages that run inside become its children. Yields the run's id.

    `parameters` are the sections of the configuration; `corpus.source` among them says whose digest the run is tagged with.
    `continues` is the id of a run that was interrupted: where a kill has left it open it ends as killed, and the new one's tag names it.
    """
    connect(workspace)
    with outages_told():
        _end_interrupted(continues)
    source = parameters.get("corpus", {}).get("source", EMBEDDED)
    tags = {**lineage_tags(workspace.root, source), **tags, **({"continues": continues} if continues else {})}
    with _run(run_name=name, tags=tags) as run_id:
        with outages_told():
            _log_parameters(parameters)
        yield run_id


@contextmanager
def stage_run(
    workspace: Workspace,
    name: str,
    *,
    parameters: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    corpus_source: str | Path = EMBEDDED,
) -> Iterator[None]:
    """The run of one stage, nested where a pipeline run is open, whose data are its data too; an error inside marks it as failed.

    What MLflow did not take while the stage worked is sent again at the end. Raises TrackingError where it does not answer.
    """
    import mlflow

    _unsent.clear()  # of a stage that failed
    if mlflow.active_run() is None:
        connect(workspace)
    tags = {"stage": name, **_lineage(workspace, corpus_source), **(tags or {})}
    with _run(run_name=name, nested=mlflow.active_run() is not None, tags=tags):
        with outages_told():
            _log_parameters(parameters)
        yield
        with outages_told():
            while _unsent:
                _unsent[0]()
                _unsent.pop(0)


@contextmanager
def _run(**options: Any) -> Iterator[str]:
    """An open run of MLflow; how it ends says how the body ended, as long as MLflow answers."""
    import mlflow

    with outages_told():
        run_id: str = mlflow.start_run(**options).info.run_id
    try:
        yield run_id
    except BaseException:
        with suppress(Exception):  # what ended the body is what must be told
            mlflow.end_run("FAILED")
        raise
    with outages_told():
        mlflow.end_run("FINISHED")


def _lineage(workspace: Workspace, source: str | Path = EMBEDDED) -> dict[str, str]:
    """Tags of code and data; inside an open run the data are that run's."""
    import mlflow

    around, tags = mlflow.active_run(), lineage_tags(workspace.root, source)
    if around is not None:
        tags.pop(DATA_TAG, None)
        tags |= {DATA_TAG: around.data.tags[DATA_TAG]} if DATA_TAG in around.data.tags else {}
    return tags


def _end_interrupted(run_id: str) -> None:
    """Mark a run that a kill has left open, and its children, as killed."""
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    try:
        runs = [client.get_run(run_id)] if run_id else []
    except MlflowException as error:
        if is_outage(error):
            raise
        return  # another database, or somebody has deleted it
    for run in runs:
        below = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
        runs += client.search_runs([run.info.experiment_id], below)
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "KILLED")


def registry_lock(workspace: Workspace) -> AbstractContextManager[int]:
    """One writer of aliases at a time on this machine."""
    return locked(workspace.mlruns / ".registry.lock")


def log_texts(workspace: Workspace, name: str, files: Mapping[str, str], *, tags: Mapping[str, str]) -> None:
    """A run that only holds texts, by file name; nested where a run is open."""
    import mlflow

    if mlflow.active_run() is None:
        connect(workspace)
    with mlflow.start_run(run_name=name, nested=mlflow.active_run() is not None, tags={**_lineage(workspace), **tags}):
        for file, text in files.items():
            mlflow.log_text(text, file)


def log_metrics(metrics: Mapping[str, float], *, step: int | None = None) -> None:
    """Log values to the open run, in one call; outside a run nothing happens (MLflow is not even imported)."""
    if run_id := _open_run():
        import mlflow

        values, now = {metric_key(key): float(value) for key, value in metrics.items()}, int(1000 * time.time())
        _send(lambda: mlflow.log_metrics(values, step=step, timestamp=now, run_id=run_id))


def log_tags(tags: Mapping[str, str]) -> None:
    """Set tags on the open run and on those around it, so that a pipeline run shows them too; outside a run nothing happens."""
    if run_id := _open_run():
        _send(lambda: _tag_upwards(tags, run_id))


def log_file(path: Path, folder: str) -> None:
    """Log one file to a folder of the open run, while the run goes on; outside a run nothing happens."""
    if run_id := _open_run():
        import mlflow

        _send(lambda: mlflow.log_artifact(str(path), folder, run_id=run_id))


def _open_run() -> str:
    """Id of the open run, or an empty string; makes no client, which would make a database."""
    if "mlflow" not in sys.modules:
        return ""
    import mlflow

    active = mlflow.active_run()
    return "" if active is None else str(active.info.run_id)


def _send(call: Callable[[], object]) -> None:
    """Log now, or at the end of the stage where MLflow does not answer: hours of training are not lost with a line of its curve."""
    if _unsent:
        _unsent.append(call)  # one wait for an answer is enough
        return
    try:
        call()
    except Exception as error:
        if not is_outage(error):
            raise
        _unsent.append(call)


def _tag_upwards(tags: Mapping[str, str], run_id: str | None) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    while run_id is not None:
        for name, value in tags.items():
            client.set_tag(run_id, name, value)
        run_id = client.get_run(run_id).data.tags.get("mlflow.parentRunId")


def log_record(folder: Path) -> None:
    """Log what a stage left for people, metrics, figures, tables and pages, and its predictions a face, for `synfer compare`."""
    import mlflow

    log_metrics({key: metric.value for key, metric in read_metrics(folder).items()})
    for name in ("metrics.json", "tables.json"):
        mlflow.log_artifact(str(folder / name))
    if (folder / "figures").is_dir():
        mlflow.log_artifacts(str(folder / "figures"), "figures")
    if (folder / "predictions").is_dir():
        mlflow.log_artifacts(str(folder / "predictions"), "predictions")
    for page in folder.glob("*.html"):
        mlflow.log_artifact(str(page))


def log_datasets(workspace: Workspace, folders: Iterable[Path], *, corpus_source: Path) -> None:
    """Log every folder that holds a manifest as a dataset of the open run.

    Its digest is DVC's where `data.dvc` has it (`corpus_source` says where the corpus comes from), else its manifest's.
    """
    import mlflow
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined] # made at run time

    registry = {workspace.root / path: digest for path, digest in data_digests(workspace.root).items()}
    for folder in folders:
        if not (folder / FILE_NAME).is_file():
            continue
        origin = corpus_source if folder.is_relative_to(workspace.stage("corpus")) else folder
        name = folder.relative_to(workspace.root).as_posix() if folder.is_relative_to(workspace.root) else folder.name
        digest = registry.get(origin) or sha256(folder / FILE_NAME)[:_DIGEST_CHARACTERS]
        source = LocalArtifactDatasetSource(str(folder))
        mlflow.log_input(MetaDataset(source, name=name, digest=digest), context=folder.name)  # type: ignore[abstract]


def metric_key(key: str) -> str:
    """A metric's key as MLflow allows it: `classifiers/real+synthetic/uar` becomes `classifiers/real_and_synthetic/uar`."""
    return re.sub(r"[^\w\-. /]", "_", key.replace("+", "_and_").replace(">", "_then_"))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters as `section.key`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _log_parameters(parameters: Mapping[str, Any]) -> None:
    import mlflow

    flat = list(flatten(parameters).items())
    for start in range(0, len(flat), _BATCH):
        mlflow.log_params(dict(flat[start : start + _BATCH]))
