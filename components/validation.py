"""Stage validation: the gate. It looks at the rectified manifest and at every image; a critical expectation that fails stops the run.

With `validation.previous` it compares them with a release, too; what has changed much is a warning. Data Docs go to `reports/gx` of the
project, the folder that holds `artifacts/` with this stage's `out`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from components.drift import Profile, drift_facts, drift_table, profile_release
from components.expectations import Finding, run_suites
from components.record import Record
from components.validation_facts import asked_classes, class_facts, image_facts, schema_facts
from components.workspace import Workspace
from synfer.config import Common, Validation
from synfer.errors import SynferError
from synfer.files import write_json
from synfer.manifest import read_manifest

RESULT = "result.json"


class GateClosed(SynferError):
    """Data that may not go on; the message names the failing expectation, what was observed and what was wanted."""


def run(section: Validation, common: Common, *, rectification: Path, synthesis: Path, out: Path) -> None:
    """Write `result.json` to `out` and Data Docs to `reports/gx`; raises GateClosed after both if a critical expectation fails."""
    docs = Workspace(out.parent.parent).reports / "gx"
    before = profile_release(Workspace.find(out).release(section.previous)) if section.previous else None
    tables = {"schema": schema_facts(rectification)}
    if tables["schema"]["right"].all():
        tables |= _tables(section, common, rectification, synthesis, before)
    findings = run_suites(section, common.expressions, tables=tables, docs=docs)
    failed = {severity: [one for one in findings if one.severity == severity and not one.success] for severity in ("critical", "warning")}
    result = {"success": not failed["critical"], "expectations": [asdict(one) for one in findings]}
    write_json(out / RESULT, result | {severity: [one.expectation for one in ones] for severity, ones in failed.items()})
    _record(findings, tables, out)
    if failed["critical"]:
        raise GateClosed(_message(failed["critical"], docs))


def _tables(section: Validation, common: Common, rectification: Path, synthesis: Path, before: Profile | None) -> dict[str, pd.DataFrame]:
    """What the suites read of images and classes and, where there is a previous release, of drift; `drift_table` is for people."""
    frame = read_manifest(rectification)
    images = image_facts(frame, synthesis)
    found = {"images": images, "classes": class_facts(frame, asked_classes(frame, common.expressions))}
    if before is None:
        return found
    now = Profile()
    now.add(images.assign(aus=frame["aus"].to_numpy()))
    return found | {"drift": drift_facts(now, before), "drift_table": drift_table(section, now, before)}


def _message(critical: list[Finding], docs: Path) -> str:
    first = critical[0]
    more = f" (and {len(critical) - 1} more)" if len(critical) > 1 else ""
    return (
        f"the gate is closed: {first.expectation} [{first.rule}]: observed {first.observed}, wanted {first.wanted}{more}; "
        f"details in {docs / 'index.html'}"
    )


def _record(findings: list[Finding], tables: dict[str, pd.DataFrame], out: Path) -> None:
    record = Record(out)
    record.metric("validation/expectations", len(findings))
    record.metric("validation/failed_critical", sum(not one.success and one.severity == "critical" for one in findings))
    record.metric("validation/failed_warning", sum(not one.success and one.severity == "warning" for one in findings))
    if "images" in tables:
        images, by_class = tables["images"], tables["classes"]
        record.metric("validation/near_duplicates", images["duplicate"].mean(), n=len(images))
        record.metric("validation/images", len(images))
        record.metric("validation/min_per_class", by_class["images"].min())
    rows = [(_mark(one), one.suite, one.expectation, one.wanted, one.observed, one.severity) for one in findings]
    record.table("Expectations", pd.DataFrame(rows, columns=["", "suite", "expectation", "wanted", "observed", "severity"]))
    if "images" in tables:
        record.table("Images that are not rejected, by label", tables["classes"])
    if "drift" in tables:
        for name, value in tables["drift"].drop(columns="au").iloc[0].items():
            record.metric(f"validation/drift/{name}", value, n=len(tables["images"]))
        record.table("Against the previous release", tables["drift_table"])
    record.save()


def _mark(finding: Finding) -> str:
    return "passed" if finding.success else "failed" if finding.severity == "critical" else "warning"
