"""Events that others can act on: Prefect's automations send notices or start deployments when one of them comes."""

from __future__ import annotations

import json
from pathlib import Path

from prefect.events import emit_event

from synfer.files import whole_file

PROMOTED, PUBLISHED = "synfer.model.promoted", "synfer.release.published"


def tell_release(folder: Path, told: Path) -> bool:
    """Tell what stage release has published, unless the file `told` says that this very content was told; returns whether it was told now.

    `folder` is the stage's, with its `release.json`.
    """
    made = json.loads((folder / "release.json").read_text(encoding="utf-8"))
    content = f"{made['path']} {made['sha256']}\n"
    if told.is_file() and told.read_text(encoding="utf-8") == content:
        return False
    resource = {"prefect.resource.id": f"synfer.release.{Path(made['path']).name}", "synfer.path": str(made["path"])}
    emit_event(event=PUBLISHED, resource=resource, payload=made)
    with whole_file(told) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return True


def tell_promotion(payload: dict[str, str]) -> None:
    """Tell a change of champion: model, version, uri, previous."""
    resource = {"prefect.resource.id": f"synfer.model.{payload['model']}", "synfer.version": payload["version"]}
    emit_event(event=PROMOTED, resource=resource, payload=payload)
