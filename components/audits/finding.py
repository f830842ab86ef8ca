"""A finding of the audit, and the verdict that travels with the data: `audit.json`.

A limit counts as broken where the whole interval lies beyond it: then chance does not explain what was found. Few images give wide
intervals, which break no limit and show that little is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from components.intervals import cell
from synfer.files import write_json
from synfer.metrics.bootstrap import Interval

RESULT, SHEET = "audit.json", "closest_pairs"
Severity = Literal["critical", "warning"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning")


@dataclass(frozen=True)
class Finding:
    """One question of the audit and its answer.

    `name` is short and stable, `title` is for people; `observed` is in words, `value`, `low`, `high` and `n` are its numbers where it has
    any. What could not be measured has no value and did not succeed: `observed` says why.
    """

    name: str
    title: str
    severity: Severity
    success: bool
    observed: str
    wanted: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def mark(self) -> str:
        """`passed`, `failed` (critical) or `warning`."""
        return "passed" if self.success else "failed" if self.severity == "critical" else "warning"


def at_most(name: str, title: str, severity: Severity, found: Interval, limit: float, *, what: str, where: str = "") -> Finding:
    """A finding that fails where the whole interval is above the limit; `what` is measured, `where` the group or pair that it is about."""
    observed = f"{where}: {words(found)}" if where else words(found)
    wanted = f"{what} at most {limit:g}"
    return Finding(name, title, severity, not found.low > limit, observed, wanted, found.value, found.low, found.high, found.n)


def unmeasured(name: str, title: str, why: str, *, wanted: str) -> Finding:
    """A question without an answer: a warning, for what is unknown is not good."""
    return Finding(name, title, "warning", success=False, observed=f"not measured: {why}", wanted=wanted)


def words(found: Interval, *, signed: bool = False) -> str:
    """A value with its interval: `0.512 (0.480 to 0.545), n = 300`."""
    return f"{cell(found, signed=signed)}, n = {found.n:,}"


def write_verdict(
    findings: Sequence[Finding],
    out: Path,
    *,
    compared: Sequence[str] = (),
    emptiest: Sequence[Mapping[str, Any]] = (),
    sheet: str | None = None,
    publish_sheet: bool = False,
) -> dict[str, Any]:
    """Write `audit.json`: success, the names that failed by severity, and all findings; returns what `read_verdict` would.

    `compared` says in words what memorisation was looked for in, `emptiest` are the emptiest cells, `sheet` is the picture of the closest
    pairs, relative to `out`, and `publish_sheet` whether everybody on it may be shown in a release.
    """
    failed = {severity: [one.name for one in findings if one.severity == severity and not one.success] for severity in SEVERITIES}
    verdict = {"success": not failed["critical"], "findings": [asdict(one) for one in findings]}
    shown = {"compared": list(compared), "emptiest": list(emptiest), "sheet": sheet, "publish_sheet": publish_sheet}
    write_json(out / RESULT, verdict | failed | shown)
    return read_verdict(out)


def read_verdict(audit: Path) -> dict[str, Any]:
    """What `write_verdict` wrote; `findings` as Finding objects."""
    verdict: dict[str, Any] = json.loads((audit / RESULT).read_text(encoding="utf-8"))
    return verdict | {"findings": [Finding(**one) for one in verdict["findings"]]}


def status(verdict: Mapping[str, Any]) -> str:
    """The verdict in a word: `passed`, with warnings named, or `failed: names`."""
    if not verdict["success"]:
        return f"failed: {', '.join(verdict['critical'])}"
    return f"passed, warnings: {', '.join(verdict['warning'])}" if verdict["warning"] else "passed"
