"""Plan files: YAML that asks for so many faces of each kind; docs/plans.md explains the format.

    cells:
      - {count: 40, expression: fear, age: elderly}
      - {count: 20, compound: happily surprised}
      - {count: 30, expression: happiness, aus: {12: [4, 5], L4: [1, 3]}}
      - {count: 10, each: {expression: [disgust, anger], age: [young, elderly]}}    # four cells of ten
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from components.plans.au_ranges import Range, draw_within
from components.plans.cells import NAME, Cell, name_of
from synfer.config import ConfigError
from synfer.vocabulary import ATTRIBUTES, COMPOUNDS, MAX_INTENSITY, VocabularyError, check_attributes, check_au, unknown

FOLDER = "configs/plans"
_KEYS = ("about", "have", "cells")
_WANTS = ("expression", "compound", "aus", *ATTRIBUTES)
_CELL_KEYS = ("name", "count", *_WANTS, "each")


class PlanError(ConfigError):
    """A plan that cannot be read or fulfilled; the message names the file, the line and the cell."""


@dataclass(frozen=True)
class Plan:
    """The cells of a plan file in its order, and the releases whose faces count."""

    path: Path
    cells: tuple[Cell, ...]
    have: tuple[str, ...] = ()


def find_plan(plan: str, root: Path) -> Path:
    """The plan file of this name under `configs/plans` of a project, or at this path; raises PlanError with the known names."""
    known = {path.stem: path for path in sorted((root / FOLDER).glob("*.yaml"))}
    if plan in known:
        return known[plan]
    for path in (root / plan, Path(plan)):
        if path.is_file():
            return path
    names = [*known] or ["none"]
    raise PlanError(f"{unknown('plan', plan, names)} ({FOLDER}), or the path of a YAML file")


def read_plan(path: Path, *, expressions: Sequence[str]) -> Plan:
    """The checked plan of a file; `expressions` are the classes of the run. Raises PlanError naming the line and the cell."""
    try:
        top = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise PlanError(f"the plan {path} does not exist") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(top, _Mapping):
        raise PlanError(f"{path} must hold `cells:`, a list of what is wanted")
    for key in top:
        if key not in _KEYS:
            raise PlanError(f"{path}, line {top.lines[key]}: {unknown('key', key, _KEYS)}")
    entries, have = top.get("cells"), top.get("have") or []
    if not isinstance(entries, list) or not entries:
        raise PlanError(f"{path} has no `cells:`, a list of what is wanted")
    if not isinstance(have, list) or not all(isinstance(name, str) for name in have):
        raise PlanError(f"{path}, line {top.lines['have']}: `have` is a list of releases, found {have!r}")
    cells = [cell for number, entry in enumerate(entries, 1) for cell in _cells(entry, number, path, expressions)]
    _check_names(cells, path)
    return Plan(path, tuple(cells), tuple(have))


# --- cells ------------------------------------------------------------------------------------------------------------------------


def _cells(entry: Any, number: int, path: Path, expressions: Sequence[str]) -> Iterator[Cell]:
    """The cells of one entry: one, or one for each combination under `each`."""
    if not isinstance(entry, _Mapping):
        raise PlanError(f"{path}: entry {number} of `cells` is {entry!r}, not a mapping such as {{count: 40, expression: fear}}")
    where = f"{path}, line {entry.line}"
    try:
        for key in entry:
            if key not in _CELL_KEYS:
                raise VocabularyError(unknown("key", key, _CELL_KEYS))
        count = entry.get("count")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise VocabularyError(f"`count` is {count!r}; it must be a whole number of faces from 1 on")
        wants = {key: entry[key] for key in _WANTS if key in entry}
        for chosen in _combinations(entry.get("each"), taken=wants):
            where = f"{path}, line {entry.line}"
            cell = _cell(entry.get("name"), count, {**wants, **chosen}, chosen, entry.line)
            where += f", cell {cell.name!r}"
            _check_cell(cell, expressions)
            yield cell
    except VocabularyError as error:
        raise PlanError(f"{where}: {error}") from error


def _combinations(each: Any, *, taken: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the values under `each`; a single empty one without it."""
    if each is None:
        yield {}
        return
    if not isinstance(each, _Mapping) or not each:
        raise VocabularyError(f"`each` is {each!r}, not a mapping of lists such as {{expression: [fear, anger], age: [young, elderly]}}")
    for key, values in each.items():
        if key not in _WANTS:
            raise VocabularyError(f"each: {unknown('key', key, _WANTS)}")
        if key in taken:
            raise VocabularyError(f"{key} stands both in the cell and under `each`; give it once")
        if not isinstance(values, list) or not values:
            raise VocabularyError(f"each: {key} is {values!r}, not a list")
    for values in product(*each.values()):
        yield dict(zip(each, values, strict=True))


def _cell(name: Any, count: int, wants: Mapping[str, Any], chosen: Mapping[str, Any], line: int) -> Cell:
    aus = _ranges(wants.get("aus"))
    attributes = {key: _text(key, value) for key, value in wants.items() if key in ATTRIBUTES}
    check_attributes(attributes)
    expression, compound = (_text(key, wants[key]) if key in wants else "" for key in ("expression", "compound"))
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise VocabularyError(f"name {name!r} must be made of letters, digits, - and _: it becomes part of file names")
    own = name_of(expression, compound, aus, attributes)
    if name is not None:
        picked = {key: attributes[key] for key in chosen if key in attributes}
        of_chosen = name_of(
            expression if "expression" in chosen else "", compound if "compound" in chosen else "", aus if "aus" in chosen else {}, picked
        )
        own = f"{name}-{of_chosen}" if chosen else name
    return Cell(own, count, expression, compound, aus, attributes, line)


def _ranges(asked: Any) -> dict[str, Range]:
    """AU ranges by canonical code; a single number is a range of its own."""
    if asked is None:
        return {}
    if not isinstance(asked, _Mapping):
        raise VocabularyError(f"`aus` is {asked!r}, not a mapping such as {{12: [2, 5], L4: [1, 3]}}")
    found: dict[str, Range] = {}
    for key, value in asked.items():
        code = check_au(str(key))
        ends = value if isinstance(value, list) else [value, value]
        if len(ends) != 2 or not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
            raise VocabularyError(f"AU {code} is {value!r}, not [FROM, TO] or one intensity")
        if not 0 <= ends[0] <= ends[1] <= MAX_INTENSITY:
            raise VocabularyError(f"AU {code} is {value!r}; a range goes upwards within 0..5 (0 absent, 5 maximum)")
        if code in found:
            raise VocabularyError(f"AU {code} stands twice")
        found[code] = (float(ends[0]), float(ends[1]))
    return found


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise VocabularyError(f"{key} is {value!r}, not a word (several go under `each`)")
    return value


def _check_cell(cell: Cell, expressions: Sequence[str]) -> None:
    """Raise VocabularyError if the cell is unknown to the run, or if no face can be what it asks for."""
    if cell.expression and cell.compound:
        raise VocabularyError(f"it asks for expression {cell.expression!r} and compound {cell.compound!r}; a face has one of them")
    if cell.compound and cell.compound not in COMPOUNDS:
        raise VocabularyError(unknown("compound expression", cell.compound, COMPOUNDS))
    parts = COMPOUNDS[cell.compound] if cell.compound else (cell.expression,) if cell.expression else ()
    for part in parts:
        if part not in expressions:
            raise VocabularyError(unknown("expression of this run (common.expressions)", part, expressions))
    for name in (cell.expression or cell.compound,) if parts else expressions:
        draw_within(name, cell.aus, np.random.default_rng(0))


def _check_names(cells: Sequence[Cell], path: Path) -> None:
    first: dict[str, Cell] = {}
    for cell in cells:
        other = first.setdefault(cell.name, cell)
        if other is not cell:
            raise PlanError(f"{path}, line {cell.line}: a cell {cell.name!r} is asked in line {other.line} already; give one a `name`")


# --- YAML that knows its lines ----------------------------------------------------------------------------------------------------


class _Mapping(dict[Any, Any]):
    """A mapping with the line (from 1) at which it begins, and that of every key."""

    line: int
    lines: dict[Any, int]


class _Loader(yaml.SafeLoader):
    """A safe loader that keeps lines and takes no key twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> _Mapping:
    mapping = _Mapping()
    mapping.line, mapping.lines = node.start_mark.line + 1, {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float) or key in mapping:
            raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice or is none", problem_mark=key_node.start_mark)
        mapping[key], mapping.lines[key] = loader.construct_object(value_node, deep=True), key_node.start_mark.line + 1
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
