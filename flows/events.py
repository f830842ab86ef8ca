"""Events that others can act on: Prefect's automations send notices or start deployments when one of them comes."""

from __future__ import annotations

import json
from pathlib import Path

from prefect.events import emit_event

PROMOTED, PUBLISHED = "synfer.model.promoted", "synfer.release.published"


def tell_release(folder: Path) -> None:
    """Tell what stage release has published; `folder` is the stage's, with its `release.json`."""
    made = json.loads((folder / "release.json").read_text(encoding="utf-8"))
    resource = {"prefect.resource.id": f"synfer.release.{Path(made['path']).name}", "synfer.path": str(made["path"])}
    emit_event(event=PUBLISHED, resource=resource, payload=made)


def tell_promotion(payload: dict[str, str]) -> None:
    """Tell a change of champion: model, version, uri, previous."""
    resource = {"prefect.resource.id": f"synfer.model.{payload['model']}", "synfer.version": payload["version"]}
    emit_event(event=PROMOTED, resource=resource, payload=payload)
