"""What Prefect's form asks for: the kinds of parameters that several flows share, with the choices that are known.

The server holds a run to the schema as it was when the deployments were made: after a new overlay, `synfer up` or `prefect deploy --all`.
What a parameter means stands in the docstring of its flow, under `Args`, from where Prefect takes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from components.stages import STAGES
from components.studies.catalogue import NAMES
from flows.study_run import PRESETS
from synfer.config import overlay_names


def _choice(names: list[str]) -> dict[str, list[str]]:
    """A choice among names in a JSON schema; without names, free text."""
    return {"enum": names} if names else {}


Overlay = Annotated[str, Field(json_schema_extra=_choice(overlay_names(Path("configs"))))]  # of the project, the current folder
Override = Annotated[str, Field(json_schema_extra={"pattern": r"^\w+(\.\w+)+="})]
StageName = Annotated[str, Field(json_schema_extra=_choice(list(STAGES)))]
StudyName = Annotated[str, Field(json_schema_extra=_choice(list(NAMES)))]
Preset = Annotated[str, Field(json_schema_extra=_choice(list(PRESETS)))]
