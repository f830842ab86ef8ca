"""Stage audit: what people must know of the data before they use it: memory, balance, fairness, duplicates, coverage.

A finding stops nothing; the verdict, `audit.json`, travels with the release. Every question is asked of the images in use, those that
rectification did not reject. The gate (stage validation) says whether data may go on, the audit what it is.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from components.audits.balance import audit_balance
from components.audits.coverage import audit_coverage
from components.audits.duplicates import audit_duplicates
from components.audits.finding import SHEET, Finding, status, write_verdict
from components.audits.groups import in_use
from components.audits.judged_groups import audit_judged_groups
from components.audits.memorisation import audit_memorisation
from components.record import Record
from components.tracking import log_tags
from synfer.config import Audit as Section
from synfer.config import Common
from synfer.manifest import read_manifest


def run(
    section: Section,
    common: Common,
    *,
    development: Path,
    fer_models: Path,
    generator: Path,
    synthesis: Path,
    rectification: Path,
    evaluation: Path,
    out: Path,
) -> None:
    """Write `audit.json`, metrics, tables and figures to `out`; the open MLflow runs get the verdict as the tag `audit`."""
    rectified = read_manifest(rectification)
    record = Record(out)
    memory = audit_memorisation(
        rectified[in_use(rectified)], section, common, development=development, fer_models=fer_models, generator=generator,
        synthesis=synthesis, record=record,
    )  # fmt: skip
    coverage, emptiest = audit_coverage(rectified, common.expressions, section, record)
    findings = [
        *memory.findings,
        audit_balance(rectified, section, record, seed=common.seed),
        audit_judged_groups(rectified, evaluation, section, record),
        audit_duplicates(rectified, synthesis, section, record, image_size=common.image_size),
        coverage,
    ]
    sheet = f"figures/{SHEET}.png" if memory.has_sheet else None
    verdict = write_verdict(findings, out, compared=memory.compared, emptiest=emptiest, sheet=sheet, publish_sheet=memory.publishable)
    _record_verdict(findings, memory.compared, record)
    log_tags({"audit": status(verdict)})


def _record_verdict(findings: list[Finding], compared: list[str], record: Record) -> None:
    """How many findings failed; the table of all of them comes first on the page."""
    for severity in ("critical", "warning"):
        record.metric(f"audit/failed_{severity}", sum(not one.success and one.severity == severity for one in findings))
    rows = [(one.mark, one.title, one.observed, one.wanted, one.severity) for one in findings]
    record.table("Findings", pd.DataFrame(rows, columns=["", "finding", "observed", "wanted", "severity"]))
    if compared:
        record.table("What memorisation was looked for in", pd.DataFrame({"compared": compared}))
    record.tables.sort(key=lambda table: table.title != "Findings")
    record.save()
