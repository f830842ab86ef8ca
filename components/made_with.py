"""What a stage was made with: `artifacts/<stage>/settings.json`, so that later runs can tell what they build on and the report quotes it.

Keys that say how and not what are left out: where two runs leave the same results, they leave the same settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synfer.config import EXECUTION, Config
from synfer.files import write_json

NAME = "settings.json"
_HOW = {"device", "threads", *EXECUTION}
_NAMED = 3  # keys of a stage that a line names

Settings = dict[str, dict[str, Any]]
"""Values by key, of the section `common` and of the stage's own, where it has one."""


def settings_of(stage: str, config: Config) -> Settings:
    """What a configuration says about a stage; folders as they were named, not where they lie."""
    sections = config.model_dump(mode="json", include={"common", stage})
    return {name: {key: value for key, value in section.items() if key not in _HOW} for name, section in sections.items()}


def write_settings(stage: str, config: Config, folder: Path) -> None:
    """Keep beside what a stage has made what it was made with."""
    write_json(folder / NAME, settings_of(stage, config))


def read_settings(folder: Path) -> Settings | None:
    """What the stage in `folder` was made with; None where it left no word of it."""
    try:
        found: Settings = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def differences(made: Settings, wanted: Mapping[str, Mapping[str, Any]], *, inside: str = "") -> list[str]:
    """`key=value, now other` of every key of both that has another value; a key of the section `inside` goes without its name."""
    return [
        f"{key if name == inside else f'{name}.{key}'}={_text(value)}, now {_text(wanted[name][key])}"
        for name, section in sorted(made.items(), key=lambda item: item[0] != inside)
        for key, value in section.items()
        if key in wanted.get(name, {}) and wanted[name][key] != value
    ]


def other_settings(stages: Iterable[str], config: Config, artifacts: Path) -> list[str]:
    """One line for every stage of `artifacts` that was made with other values than those of `config`: up to three keys, old and new."""
    lines = []
    for stage in stages:
        changed = differences(read_settings(artifacts / stage) or {}, settings_of(stage, config), inside=stage)
        if changed:
            lines.append(f"{stage} was made with {_named(changed)}")
    return lines


def all_settings(stages: Iterable[str], artifacts: Path) -> dict[str, Any]:
    """What each stage was made with by its name, and `common` before, once for all or `common of <stages>` where they differ."""
    found = {stage: read_settings(artifacts / stage) for stage in stages}
    shared: dict[str, list[str]] = {}
    for stage, settings in found.items():
        if settings is not None:
            shared.setdefault(json.dumps(settings["common"]), []).append(stage)
    one = len(shared) == 1
    common = {"common" if one else f"common of {', '.join(names)}": json.loads(values) for values, names in shared.items()}
    return common | {stage: "unknown" if settings is None else settings.get(stage, {}) for stage, settings in found.items()}


def unlike(found: Mapping[str, Any], config: Config) -> str:
    """Where the settings of `all_settings` are not those of a configuration: up to three keys, old and new; empty if nowhere."""
    wanted = config.model_dump(mode="json")
    sections = [(name.partition(" ")[0], section) for name, section in found.items() if isinstance(section, Mapping)]
    return _named([text for name, section in sections for text in differences({name: dict(section)}, wanted)])


def _named(changed: list[str]) -> str:
    more = f"; and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return "; ".join(changed[:_NAMED]) + more


def _text(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
