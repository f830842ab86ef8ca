"""docs/results.md and the table of studies in README.md, from reports/studies/*.json: numbers never come by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.studies.catalogue import NAMES, find_study
from components.studies.publish import shown_table
from components.studies.study import TableOf

HEADLINES = 3  # differences of a study in the README
_EMPTY = "No study has been run here yet; `synfer study scaling` runs the first."


def read_studies(folder: Path) -> list[dict[str, Any]]:
    """The result files of a folder, in the order of the catalogue."""
    paths = [folder / f"{name}.json" for name in NAMES]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def headline_table(studies: Sequence[Mapping[str, Any]]) -> str:
    """Markdown table of the first differences of every study."""
    if not studies:
        return _EMPTY
    lines = ["| study | claim | difference | value | 95 % interval | n | |", "| --- | --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *(_line(study, each, named=True) for study in studies for each in study["comparisons"][:HEADLINES])])


def results_page(studies: Sequence[Mapping[str, Any]]) -> str:
    """The whole of docs/results.md."""
    head = (
        "# Results of the studies\n\n"
        "Written by `make results` from `reports/studies/*.json`, which `synfer study ...` leaves; nothing that was measured is\n"
        "left out. [studies.md](studies.md) says how the studies work. A difference is paired by test face and by seed; where its\n"
        "interval holds 0 it is none that can be told. Intervals hold the chance of faces and of trainings together. Each interval is\n"
        f"for itself: {_by_chance(sum(len(found['comparisons']) for found in studies))}."
    )
    return "\n\n".join([head, *(map(_section, studies) if studies else [_EMPTY])]) + "\n"


def _by_chance(differences: int) -> str:
    return f"of {differences} differences at 95 %, about {differences / 20:.0f} would exclude 0 if there were none at all"


def _section(found: Mapping[str, Any]) -> str:
    study = find_study(found["study"])
    sizes = found["sizes"]
    facts = (
        f"{found['corpus']}: {sizes['labelled']:,} real faces with labels, {sizes['unlabelled']:,} without, {sizes['test']:,} for the "
        f"test; {found['seeds']} trainings an arm."
    )
    tables = [_table(TableOf(each["title"], tuple(each["arms"]), each["measures"]), found["arms"]) for each in found["tables"]]
    heads = ["| claim | difference | value | 95 % interval | n | |", "| --- | --- | --- | --- | --- | --- |"]
    differences = "\n".join([*heads, *(_line(found, each, named=False) for each in found["comparisons"])])
    title = f"## {study.title} (`synfer study {study.name}`)"
    return "\n\n".join([title, study.question, facts, *found["notes"], differences, *tables])


def _line(study: Mapping[str, Any], each: Mapping[str, Any], *, named: bool) -> str:
    value = each["difference"]
    interval = f"{value['low']:+.3f} to {value['high']:+.3f}"
    what = f"{each['ours']} minus {each['theirs']}, {each['measure'].replace('uar', 'UAR')}"
    cells = [each["words"], what, f"{value['value']:+.3f}", interval, f"{value['n']:,}", each["verdict"].split(":")[0]]
    return f"| {' | '.join([study['study'], *cells] if named else cells)} |"


def _table(table: TableOf, arms: Mapping[str, Any]) -> str:
    frame = shown_table(table, arms)
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n\n".join([f"**{table.title}**", "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)])
