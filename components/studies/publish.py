"""What a finished study leaves for people: `reports/studies/<study>.json` with every figure, and a page with table and plot beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from components.classifier_scores import cell
from components.fer_models import ROLES
from components.lineage import lineage_tags
from components.record import Record
from components.report_page import data_uri
from components.studies.results import Results, verdict
from components.studies.study import Study, TableOf
from components.templating import fill
from components.workspace import Workspace
from synfer.config import Config
from synfer.files import whole_file, whole_folder, write_json
from synfer.metrics.bootstrap import Interval
from synfer.metrics.roles import expand_identities

PLOT = "result"
_SHOWN = ("common", "corpus", "generator", "synthesis", "rectification", "classifiers", "studies")
_OWN = ("train_images", "steps", "val_uar", "seconds")


@dataclass(frozen=True)
class Published:
    """Result file, page, and the folder with figures and tables."""

    result: Path
    page: Path
    record: Path


def publish(
    study: Study, results: Results, config: Config, workspace: Workspace, *, facts: Mapping[str, Any], place: str, models: Workspace,
    out: Path,
) -> Published:  # fmt: skip
    """Write what the study found; `models` are the artifacts of the models that took part, `out` is replaced."""
    found = as_json(study, results, config, facts, workspace)
    with whole_folder(out) as work:
        record = Record(work)
        record.figure(PLOT, study.figure(results, config), title=study.title, caption=study.question)
        for table in study.tables_of(results):
            record.table(table.title, shown_table(table, found["arms"]))
        for arm, measures in found["arms"].items():
            for name, figure in measures.items():
                record.metric(f"{_key(arm)}/{name}", **figure)
        record.save()
        page = fill("study.html.j2", **_page_values(study, found, config, models, work / "figures" / f"{PLOT}.png"))
        (work / f"{study.name}.html").write_text(page, encoding="utf-8")
    reports = workspace.reports / "studies" / place
    result = write_json(reports / f"{study.name}.json", found)
    with whole_file(reports / f"{study.name}.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Published(result, reports / f"{study.name}.html", out)


def as_json(study: Study, results: Results, config: Config, facts: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    """The content of the result file: every figure is {value, low, high, n}; own figures of the trainings have no interval."""
    arms: dict[str, dict[str, dict[str, float | int | None]]] = {}
    for arm, measures in results.all_figures().items():
        arms[arm] = {name: as_figure(found) for name, found in measures.items()}
        for key in _OWN:
            if (value := results.arms[arm].mean(key)) is not None:
                arms[arm][key] = {"value": value, "low": None, "high": None, "n": len(results.arms[arm].outcomes)}
    comparisons = []
    for each in study.comparisons(results):
        found = results.difference(each)
        told = {"words": each.words, "ours": each.ours, "theirs": each.theirs, "measure": each.measure, "verdict": verdict(found)}
        comparisons.append({**told, "difference": as_figure(found)})
    tables = [asdict(table) for table in study.tables_of(results)]
    return {
        "study": study.name, "seeds": config.studies.seeds, **facts, "confidence": config.evaluation.confidence, "arms": arms,
        "comparisons": comparisons, "tables": tables, "notes": study.notes(results, config),
        "lineage": lineage_tags(workspace.root, config.corpus.source),
    }  # fmt: skip


def as_figure(found: Interval) -> dict[str, float | int | None]:
    """An interval as JSON."""
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def shown_table(table: TableOf, arms: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """A table's cells as text: `0.812 (0.790 to 0.833)`; a measure that an arm lacks is a dash."""
    return pd.DataFrame([{"arm": arm, **_row(table, arms[arm])} for arm in table.arms])


def _row(table: TableOf, measures: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    row = {heading: cell(Interval(**measures[key])) if key in measures else "-" for heading, key in table.measures.items()}
    images = measures.get("train_images")
    return row if images is None else {"training faces": f"{images['value']:,.0f}", **row}


def _key(arm: str) -> str:
    """An arm as part of a metric's key, in the characters that MLflow takes."""
    return "".join(letter if letter.isalnum() or letter in " _-." else "_" for letter in arm.replace("%", "percent").replace("+", "and"))


def _page_values(study: Study, found: Mapping[str, Any], config: Config, models: Workspace, plot: Path) -> dict[str, Any]:
    reach = max((max(abs(each["difference"][end]) for end in ("low", "high")) for each in found["comparisons"]), default=1.0) or 1.0
    used = {name: getattr(config, name).model_dump(mode="json") for name in _SHOWN}
    return {
        "study": study, "found": found, "plot": data_uri(plot.read_bytes(), "png"), "reach": reach, "roles": _roles(models),
        "tables": [(table.title, shown_table(table, found["arms"])) for table in map(_table, found["tables"])],
        "settings": yaml.safe_dump(used, sort_keys=False),
    }  # fmt: skip


def _table(entry: Mapping[str, Any]) -> TableOf:
    return TableOf(entry["title"], tuple(entry["arms"]), entry["measures"])


def _roles(models: Workspace) -> list[dict[str, Any]]:
    """The models that took part: what they have learned from; none where a study needed none."""
    path = models.stage("fer_models") / ROLES
    if not path.is_file():
        return []
    roles = json.loads(path.read_text(encoding="utf-8"))
    return [
        {"role": role, "architecture": model["architecture"], "sha256": model["sha256"], "images": model["trained_on"]["images"],
         "people": len(expand_identities(model["trained_on"]["identities"]))}
        for role, model in roles.items()
    ]  # fmt: skip
