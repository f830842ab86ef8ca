"""`dvc repro` as a flow: what changed is rebuilt on an agent, on a schedule or by a click, and DVC's own words are the log."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from components.dvc_repro import changed_metrics, repro_lines
from flows.project import load_project
from flows.starts import check_starts


@flow(name="repro", log_prints=False)
def repro(force: bool = False) -> None:
    """Rebuild the stages of dvc.yaml whose code, settings or data changed.

    Args:
        force: Rebuild all of them, whether anything changed or not.
    """
    check_starts()
    workspace, _ = load_project()
    logger = get_run_logger()
    for line in repro_lines(workspace, force=force):
        logger.info("%s", line)
    changes = changed_metrics(workspace)
    create_markdown_artifact(markdown=changes or "No metric changed.", key="repro-metrics", description="Metrics that changed, by dvc")
