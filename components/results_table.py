"""The tables in README.md and docs/results.md, from reports/metrics.json and reports/studies: ``python -m components.results_table``.

Numbers never come by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from components.made_with import NAME, unlike
from components.record import Metric
from components.studies.document import headline_table, read_studies, results_page
from components.workspace import Workspace, WorkspaceError
from synfer.config import load_config
from synfer.errors import SynferError
from synfer.files import whole_file

START, END = "<!-- results -->", "<!-- /results -->"
STUDIES = "<!-- studies -->", "<!-- /studies -->"
ROWS: dict[str, str] = {
    "corpus/images": "Images of the embedded corpus",
    "generation/judge_accuracy": "Generated faces whose intent the independent judge confirms",
    "generation/kid": "KID of the generated faces to the real test split (range: of subsets of 250)",
    "generation/kid_floor": "KID of two halves of the real test split, the floor (range: of subsets of 250)",
    "generation/precision": "Precision: generated faces within the real ones' neighbourhood",
    "rectification/kept": "Share of generated faces kept by rectification",
    "classifiers/real/uar": "UAR on real faces, trained on real ones",
    "classifiers/synthetic/uar": "UAR on real faces, trained on synthetic ones",
    "classifiers/real+synthetic/uar": "UAR on real faces, trained on both",
}
"""Metrics of the table and what they mean."""

NOTE = (
    "UAR is of one training each: its interval is over the people of the test split and knows nothing of other "
    "seeds (the studies below do).\n"
    "KID's range is the spread of single subsets, not an interval of the mean."
)
"""What the table says below itself."""


def results_table(metrics: dict[str, Metric]) -> str:
    """Markdown table of the metrics of `ROWS` with interval and number of samples."""
    lines = ["| what | value | 95 % interval | n |", "| --- | --- | --- | --- |"]
    for key, title in ROWS.items():
        metric = metrics[key]
        interval = "" if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
        value = f"{metric.value:,.0f}" if metric.value >= 100 else f"{metric.value:.3f}"
        lines.append(f"| {title} | {value} | {interval} | {'' if metric.n is None else f'{metric.n:,}'} |")
    return "\n".join([*lines, "", NOTE])


def fill_readme(text: str, table: str, *, markers: tuple[str, str] = (START, END)) -> str:
    """`text` with the table between its two markers; raises WorkspaceError where a marker is missing."""
    before, start, rest = text.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not start or not end:
        raise WorkspaceError(f"README.md needs the markers {markers[0]} and {markers[1]}")
    return f"{before}{start}\n{table}\n{end}{after}"


def read_report(path: Path) -> dict[str, Metric]:
    """The metrics of a finished run, as the report left them."""
    return {key: Metric(**value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}


def check_run(workspace: Workspace) -> None:
    """Raise WorkspaceError where the metrics in `reports/` are of a run with other settings than those of params.yaml."""
    try:
        made_with = json.loads((workspace.reports / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    if other := unlike(made_with, load_config(workspace.params)):
        raise WorkspaceError(f"reports/metrics.json is not of the run that params.yaml describes ({other}); run synfer flow pipeline first")


def main() -> None:
    """Renew the tables of the README and the page of the studies around the current folder; raises WorkspaceError, see `check_run`."""
    workspace = Workspace.find(Path.cwd())
    check_run(workspace)
    readme = workspace.root / "README.md"
    studies = read_studies(workspace.reports / "studies")
    filled = fill_readme(readme.read_text(encoding="utf-8"), results_table(read_report(workspace.reports / "metrics.json")))
    for path, text in (
        (readme, fill_readme(filled, headline_table(studies), markers=STUDIES)),
        (workspace.root / "docs" / "results.md", results_page(studies)),
    ):
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except SynferError as error:
        sys.exit(f"synfer: {error}")
