"""What `synfer study` and its flow share: presets, and the configuration of a study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.project import load_project

if TYPE_CHECKING:
    from components.studies.run import StudyRun

PRESETS = {"smoke": ("smoke", "studies/smoke"), "laptop": (), "paper": ("sd15_affectnet", "studies/paper")}
"""Overlays by preset; laptop is params.yaml as it is."""


def open_study(
    name: str,
    *,
    preset: str = "laptop",
    seeds: int | None = None,
    corpus: Path | None = None,
    overlays: Sequence[str] | None = None,
    overrides: Sequence[str] | None = None,
) -> StudyRun:
    """The study in the project around the current folder.

    With `corpus` FER models and generator are trained on it, unless the configuration says how, and no rendered compound faces are shown:
    the embedded models have seen rendered faces only. Raises ConfigError or StudyError.
    """
    from components.studies.run import StudyRun
    from synfer.config import ConfigError
    from synfer.vocabulary import unknown

    if preset not in PRESETS:
        raise ConfigError(unknown("preset", preset, PRESETS))
    layers, values = [*PRESETS[preset], *(overlays or ())], [*(overrides or ())]
    if seeds is not None:
        values.append(f"studies.seeds={seeds}")
    workspace, config = load_project(layers, values)
    place = "" if preset == "laptop" else preset
    if corpus is not None:
        workspace, config = load_project(layers, [*_learned_from(corpus, adapted=config.generator.adapt != "none"), *values])
        place = f"{place}/{corpus.resolve().name}".strip("/")
    return StudyRun(name, config, workspace, place=place, preset=preset)


def _learned_from(corpus: Path, *, adapted: bool) -> list[str]:
    values = [f"corpus.source={json.dumps(str(corpus.resolve()))}", "fer_models.source=train", "studies.compound_faces=0"]
    return values if adapted else [*values, "generator.adapt=full"]
