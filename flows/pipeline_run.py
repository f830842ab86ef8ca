"""One run of the pipeline: runs its stages, and shows them on the terminal and on Prefect's page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from prefect.logging import get_run_logger

from components.journal import Journal
from components.made_with import other_settings, read_settings
from components.record import Metric, read_metrics
from components.stages import STAGES, fingerprint_of, run_stage, stages_between, upstream
from components.tracking import pipeline_run
from components.workspace import Workspace
from flows.artifacts import ProgressBar, show_stage
from flows.events import tell_release
from flows.project import check_settings, console, shown
from synfer.config import Config

_HEADLINES: dict[str, tuple[str, ...]] = {
    "corpus": ("corpus/images", "corpus/identities", "corpus/label_accuracy"),
    "fer_models": ("fer_models/guide/val_uar", "fer_models/judge/val_uar"),
    "generator": ("generator/parameters", "generator/reconstruction_l1"),
    "feranno": ("feranno/val_uar", "feranno/ece"),
    "synthesis": ("synthesis/images",),
    "rectification": ("rectification/kept", "rectification/relabelled", "rectification/softened"),
    "validation": ("validation/expectations", "validation/failed_critical", "validation/failed_warning"),
    "classifiers": ("classifiers/real/val_uar", "classifiers/synthetic/val_uar", "classifiers/real+synthetic/val_uar"),
    "evaluation": ("generation/judge_accuracy", "classifiers/real/uar", "classifiers/synthetic/uar", "classifiers/real+synthetic/uar"),
    "audit": ("audit/failed_critical", "audit/failed_warning", "audit/judge_accuracy", "audit/cells_filled_share"),
    "release": ("release/images", "release/bytes"),
    "registration": ("registration/version", "registration/uar"),
}
"""What the terminal shows of a stage."""
_COUNTS = {"images", "identities", "parameters", "expectations", "failed_critical", "failed_warning", "bytes", "version"}
_SHARES = {"label_accuracy", "kept", "relabelled", "softened", "judge_accuracy", "cells_filled_share"}


TOLD = ".release_told"


class PipelineRun:
    """The project, the configuration and the first and last stage of one pipeline run; knows how far it is."""

    def __init__(
        self, workspace: Workspace, config: Config, *, start: str, stop: str, flow_run_id: str, publish: bool = True
    ) -> None:
        """Without `publish` stage release is left out.

        Raises StageError if `start` or `stop` is no stage, or if an earlier one has not left what is needed.

        Raises PlanError or WorkspaceError for a plan or release of the configuration that cannot be used.
        """
        self.workspace, self.config, self.flow_run_id = workspace, config, flow_run_id
        self._wanted = [name for name in stages_between(start, stop, workspace) if publish or name != "release"]
        self._used = upstream(self._wanted)
        check_settings(config, workspace, self._wanted)
        self._journal: Journal | None = None
        self._started = time.perf_counter()
        self._console = console()
        self._progress = ProgressBar()

    @property
    def tags(self) -> dict[str, str]:
        """Tags that lead from MLflow back to the flow run."""
        return {"prefect.flow_run": self.flow_run_id}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other run of the project writes stages, then take over what it has finished, if it was interrupted or waited for.
        """
        waited = []

        def tell() -> None:
            waited.append(True)
            self._console.print("another run writes artifacts/; waiting for its end")
            get_run_logger().info("another run writes artifacts/; waiting for its end")

        with self.workspace.exclusive(on_wait=tell):
            self._journal = Journal(self.workspace, waited=bool(waited))
            try:
                yield
            except Exception:
                self._journal.failed()
                raise
            self._journal.completed()

    @contextmanager
    def tracked(self, name: str) -> Iterator[None]:
        """The parent run in MLflow; the journal notes it for the one that continues this one if it must."""
        assert self._journal is not None
        settings = self.config.model_dump(mode="json")
        for stage in self._used:  # what it was made with, not what is asked for now
            settings[stage] |= (read_settings(self.workspace.stage(stage)) or {}).get(stage, {})
        with pipeline_run(self.workspace, name, parameters=settings, tags=self.tags, continues=self._journal.interrupted) as run_id:
            self._journal.open(run_id)
            yield

    def stage(self, name: str) -> Path:
        """Run a stage, or take what an earlier run left where the pipeline starts later or stops before; returns its folder."""
        if name not in self._wanted:
            self._tell_other_settings(name)
            return self.workspace.stage(name)
        label = f"{list(STAGES).index(name) + 1:2d}/{len(STAGES)} {name:<14}"
        if self._console.is_terminal:
            self._console.print(f"[dim]{label} ...[/dim]")
        started, kept = time.perf_counter(), self._is_kept(name)
        folder = self.workspace.stage(name)
        if not kept:
            run_stage(name, self.config, self.workspace, tags=self.tags, journal=self._journal)
        took = "kept    " if kept else f"{time.perf_counter() - started:6.1f} s"
        measured = headline(name, read_metrics(folder))
        self._console.print(f"[green]{label}[/green] {took}   {measured}")
        get_run_logger().info("%s: %s   %s", name, took.strip(), measured)
        show_stage(name, folder)
        if name == "release":
            tell_release(folder, self.workspace.artifacts / TOLD)
        self._progress.advance((list(STAGES).index(name) + 1) / len(STAGES))
        return folder

    def _tell_other_settings(self, name: str) -> None:
        """Say so where an earlier run made a stage that this one builds on with other settings."""
        for line in other_settings({name} & set(self._used), self.config, self.workspace.artifacts):
            self._console.print(line, style="yellow", markup=False)
            get_run_logger().warning(line)

    def _is_kept(self, name: str) -> bool:
        """Whether the interrupted run has left nothing to do; a stage that acts on the world looks for itself at what is done."""
        assert self._journal is not None
        if not STAGES[name].in_dvc or not self._journal.is_logged(name):
            return False
        return self._journal.has(name, fingerprint_of(STAGES[name], self.config, self.workspace))

    def finish(self) -> None:
        """Print where to look."""
        minutes, seconds = divmod(round(time.perf_counter() - self._started), 60)
        self._console.print(f"\n[bold]done in {minutes} min {seconds:02d} s[/bold]")
        for what, where in places(self.workspace, self.config, self._wanted).items():
            self._console.print(f"  {what:<8} {where}")


def places(workspace: Workspace, config: Config, wanted: Sequence[str]) -> dict[str, str]:
    """Where to look for what the stages `wanted` have left, by what it is."""
    sheets = sorted((workspace.stage("synthesis") / "figures").glob("*.png"))
    made = {
        "report": ("report", workspace.reports / "report.html"),
        "faces": ("synthesis", sheets[0] if sheets else workspace.stage("synthesis")),
        "metrics": ("report", workspace.reports / "metrics.json"),
        "dataset": ("release", workspace.data / "synthetic" / config.release.name),
    }
    found = {what: shown(path, workspace.root) for what, (stage, path) in made.items() if stage in wanted and path.exists()}
    if "registration" in wanted:
        found["model"] = f"models:/{config.registration.model_name} in MLflow"
    if not found:
        found["folder"] = shown(workspace.stage(wanted[-1]), workspace.root)
    return found | {"browser": "make ui   (MLflow: http://127.0.0.1:5000, Prefect: http://127.0.0.1:4200)"}


def headline(stage: str, metrics: Mapping[str, Metric]) -> str:
    """What a stage measured, on one line: counts as whole numbers, shares of faces in per cent, scores 0..1 with three decimals."""
    found = [(key.removeprefix(f"{stage}/"), metrics[key].value) for key in _HEADLINES.get(stage, ()) if key in metrics]
    return " · ".join(f"{name} {_written(name.split('/')[-1], value)}" for name, value in found)


def _written(name: str, value: float) -> str:
    if name in _COUNTS:
        return f"{value:,.0f}"
    return f"{100 * value:.1f} %" if name in _SHARES else f"{value:.3f}"
