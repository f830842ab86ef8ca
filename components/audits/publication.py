"""The audit as part of a release: its verdict, and the sheet of the closest pairs where everybody on it is drawn."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from components.audits.finding import RESULT, SHEET, read_verdict

FOLDER = "audit"


def publish_audit(audit: Path, release: Path) -> dict[str, Any]:
    """Copy `audit.json` and, if it may be shown, `closest_pairs.png` to the folder `audit` of a release; returns the verdict.

    A sheet with faces of a corpus of photographs is left behind: its people have not agreed, and its licence need not allow it.
    """
    verdict, folder = read_verdict(audit), release / FOLDER
    folder.mkdir()
    shutil.copyfile(audit / RESULT, folder / RESULT)
    if verdict["sheet"] and verdict["publish_sheet"]:
        shutil.copyfile(audit / verdict["sheet"], folder / f"{SHEET}.png")
    return verdict
