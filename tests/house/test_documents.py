"""Documents keep their word: commands parse, links lead somewhere, the table of results is the one of the report."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from components.record import Metric
from components.results_table import END, ROWS, START, STUDIES, fill_readme, read_report, results_table
from components.studies.document import headline_table, read_studies, results_page
from components.workspace import WorkspaceError
from flows.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "mlruns" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted((ROOT / "flows" / "commands").glob("*.py"))


def commands(path: Path) -> list[str]:
    """Every `synfer ...` that stands on a line of its own or in backticks, without placeholders."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^\s+(synfer [^\n#>]+)", text, re.MULTILINE)
    found += re.findall(r"`(synfer [^`>]+)", text) if path.suffix == ".md" else []
    return [command.strip() for command in found if "STAGE" not in command and "..." not in command]


def parse(command: str) -> None:
    """Parse a command line as the program would, without running it; raises click's UsageError.

    A command that is only named, `synfer study`, may lack its arguments.
    """
    group = typer.main.get_command(app)
    arguments = shlex.split(command)[1:]
    while isinstance(group, TyperGroup):
        name, arguments = arguments[0], arguments[1:]
        assert name in group.commands, f"{command}: no command {name}"
        group = group.commands[name]
    try:
        group.make_context("synfer", arguments)
    except typer.BadParameter:
        if arguments:
            raise


@pytest.mark.parametrize("path", [*DOCUMENTS, *MODULES], ids=lambda path: path.name)
def test_commands_parse(path: Path) -> None:
    for command in commands(path):
        parse(command)


def test_documents_show_commands() -> None:
    assert sum(len(commands(path)) for path in DOCUMENTS) > 15


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_make_targets_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^\s+|`)make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_table_of_results_is_that_of_the_report() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert fill_readme(readme, results_table(read_report(ROOT / "reports" / "metrics.json"))) == readme, "renew it with: make results"


def test_studies_are_those_of_their_result_files() -> None:
    studies, readme = read_studies(ROOT / "reports" / "studies"), (ROOT / "README.md").read_text(encoding="utf-8")
    assert fill_readme(readme, headline_table(studies), markers=STUDIES) == readme, "renew it with: make results"
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == results_page(studies), "renew it with: make results"


def test_table_shows_interval_and_count() -> None:
    table = results_table({key: Metric(0.5, 0.25, 0.75, 1000) for key in ROWS} | {"corpus/images": Metric(6000.0)})
    assert "| Images of the embedded corpus | 6,000 |  |  |" in table
    assert table.count("| 0.500 | 0.250 to 0.750 | 1,000 |") == len(ROWS) - 1


def test_filling_keeps_the_rest_and_needs_the_markers() -> None:
    assert fill_readme(f"a\n{START}\nold\n{END}\nb", "new") == f"a\n{START}\nnew\n{END}\nb"
    with pytest.raises(WorkspaceError, match="needs the markers"):
        fill_readme("no markers", "new")
