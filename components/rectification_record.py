"""What people see of a rectification: metrics with intervals, calibration, the cost of precision, and faces with the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from components.annotation_figures import action_bars, face_sheet, precision_coverage_figure, reliability_diagram
from components.plots import confusion_matrices
from components.record import Record
from synfer.annotation.calibration import Reliability, reliability, scale
from synfer.annotation.rectifier import HeldOut, Rectified
from synfer.annotation.rectify import ACTIONS, precision_coverage
from synfer.classifiers.examples import class_indices
from synfer.images import load_images
from synfer.metrics.classification import confusion

_SHEET = 12  # faces on a sheet


@dataclass(frozen=True)
class Outcome:
    """The rectified manifest, how it came about, and the val faces behind it."""

    frame: pd.DataFrame
    rectified: Rectified
    held_out: HeldOut


def record_outcome(outcome: Outcome, *, images: Path, image_size: int, out: Path) -> None:
    """Write metrics, figures and tables of a rectification; `images` is the dataset folder of the generated faces."""
    record = Record(out)
    diagrams = _diagrams(outcome)
    _metrics(record, outcome, diagrams["pool"][1].ece)
    _tables(record, outcome, diagrams)
    _figures(record, outcome, diagrams)
    for action, title, caption in (
        ("relabel", "Relabelled faces", "The surest first: what was asked, and what the members see instead."),
        ("soften", "Softened faces", "The least sure first: worth keeping, but with the whole posterior for a label."),
        ("reject", "Rejected faces", "The surest first: still too unsure for the wanted precision."),
    ):
        rows = outcome.frame[outcome.frame["action"] == action]
        chosen = rows.sort_values(["entropy", "sample_id"], ascending=action != "soften").head(_SHEET)
        if len(chosen):
            faces = load_images(images, chosen["sample_id"].tolist(), size=image_size)
            record.figure(f"sheet_{action}", face_sheet(faces, chosen["reason"].tolist()), title=title, caption=caption)
    record.save()


def share(record: Record, key: str, count: int, n: int) -> None:
    """Keep a share with its 95 % Wilson interval."""
    interval = binomtest(count, n).proportion_ci(method="wilson")
    record.metric(key, count / n, low=interval.low, high=interval.high, n=n)


def _metrics(record: Record, outcome: Outcome, ece: float) -> None:
    frame, thresholds, n, n_val = outcome.frame, outcome.rectified.thresholds, len(outcome.frame), len(outcome.held_out.labels)
    share(record, "rectification/kept", int((frame["action"] != "reject").sum()), n)
    for action, key in zip(ACTIONS, ("kept_as_asked", "relabelled", "softened", "rejected"), strict=True):
        share(record, f"rectification/{key}", int((frame["action"] == action).sum()), n)
    share(record, "rectification/agreement", int((frame["label"] == frame["expression"]).sum()), n)
    if outcome.rectified.noise is not None:
        record.metric("rectification/intent_wrong", outcome.rectified.noise.wrong, n=n)
    record.metric("rectification/ece", ece, n=n_val)
    record.metric("rectification/target_precision", thresholds.target)
    used = round(thresholds.coverage * n_val)
    share(record, "rectification/val_precision", round(thresholds.precision * used), used)
    share(record, "rectification/val_coverage", used, n_val)
    record.metric("rectification/reject_below", thresholds.reject_below)
    record.metric("rectification/assert_from", thresholds.assert_from)


def _diagrams(outcome: Outcome) -> dict[str, tuple[Reliability, Reliability]]:
    """Reliability on val before and after calibration: of every member, and of the pool (its raw form is the mean of raw members)."""
    members, labels, pool = outcome.held_out.members, outcome.held_out.labels, outcome.rectified.pool
    raw = {name: scale(scores, 1.0) for name, scores in sorted(members.items())}
    calibrated = pool.calibrated(members)
    diagrams = {name: (reliability(raw[name], labels), reliability(calibrated[name], labels)) for name in raw}
    mean = np.mean(list(raw.values()), axis=0)
    return diagrams | {"pool": (reliability(mean, labels), reliability(pool(members), labels))}


def _tables(record: Record, outcome: Outcome, diagrams: dict[str, tuple[Reliability, Reliability]]) -> None:
    pool, rows = outcome.rectified.pool, []
    for name, probabilities in pool.calibrated(outcome.held_out.members).items():
        right = float((probabilities.argmax(axis=1) == outcome.held_out.labels).mean())
        before, after = diagrams[name]
        rows.append((name, right, before.ece, after.ece, pool.temperatures[name], pool.weights[name]))
    columns = ["member", "accuracy on val", "ECE before", "ECE after", "temperature", "weight in the pool"]
    record.table("Members, calibrated on val", pd.DataFrame(rows, columns=columns))
    record.table("Which label is right? Val with simulated intents", _rules(outcome.rectified))
    frame = outcome.frame.assign(confirmed=outcome.frame["label"] == outcome.frame["expression"])
    grouped = frame.groupby("expression", sort=False)
    actions = grouped["action"].value_counts().unstack(fill_value=0).reindex(columns=list(ACTIONS), fill_value=0)
    table = actions.assign(n=grouped.size(), confirmed=grouped["confirmed"].mean(), entropy=grouped["entropy"].mean())
    ordered = table.reindex([name for name in outcome.rectified.classes if name in table.index])
    record.table("Actions by what was asked", ordered.reset_index(names="asked"))


def _rules(rectified: Rectified) -> pd.DataFrame:
    """Precision and coverage on val of rules that one might use instead."""
    val, thresholds = rectified.simulated, rectified.thresholds
    seen, chosen, confidence = val.pooled.argmax(axis=1), val.posterior.argmax(axis=1), val.posterior.max(axis=1)
    kept, asserted = confidence >= thresholds.reject_below, confidence >= thresholds.assert_from
    rows: list[tuple[str, np.ndarray, float]] = []
    if val.given is not None:
        agreed = seen == val.given
        rows += [
            ("the intent as it is", val.given == val.labels, 1.0),
            ("only where the members see the intent", (seen == val.labels)[agreed], float(agreed.mean())),
        ]
    rows += [
        ("always what the members see", seen == val.labels, 1.0),
        ("posterior of both, all images", chosen == val.labels, 1.0),
        ("posterior, not rejected (released)", (chosen == val.labels)[kept], float(kept.mean())),
        ("posterior, asserted (kept or relabelled)", (chosen == val.labels)[asserted], float(asserted.mean())),
    ]
    shown = [(rule, float(np.mean(right)) if len(right) else float("nan"), coverage) for rule, right, coverage in rows]
    return pd.DataFrame(shown, columns=["rule", "precision", "coverage"])


def _figures(record: Record, outcome: Outcome, diagrams: dict[str, tuple[Reliability, Reliability]]) -> None:
    frame, thresholds, classes = outcome.frame, outcome.rectified.thresholds, outcome.rectified.classes
    shares = {name: {action: float((rows["action"] == action).mean()) for action in ACTIONS} for name, rows in frame.groupby("expression")}
    ordered = {name: shares[name] for name in classes if name in shares}
    record.figure(
        "actions", action_bars(ordered), title="What happened to the labels",
        caption="Kept as asked, relabelled to what is seen, softened to a distribution, or rejected; by the expression that was asked.",
    )  # fmt: skip
    asked, rectified = (class_indices(frame[column].tolist(), classes) for column in ("expression", "label"))
    counts = confusion(asked, rectified, len(classes))
    record.figure(
        "confusion", confusion_matrices({"generated faces": counts}, classes, rows="asked", columns="rectified label"),
        title="Intent against rectified label",
        caption="Per cent of what was asked; off the diagonal the generator drew something else than asked.",
    )  # fmt: skip
    record.figure(
        "reliability", reliability_diagram(diagrams), title="Calibration of the members and of their pool",
        caption=f"On {len(outcome.held_out.labels)} real val faces. On the diagonal a confidence of 0.8 is right in 80 % of cases.",
    )  # fmt: skip
    val = outcome.rectified.simulated
    curves = {
        "members and intent": precision_coverage(val.posterior, val.labels),
        "members alone": precision_coverage(val.pooled, val.labels),
    }
    missed = "" if thresholds.reached else " The wanted precision is out of reach on val, so the best one that covers half of it was taken."
    record.figure(
        "precision_coverage", precision_coverage_figure(curves, thresholds), title="What precision costs",
        caption=f"On val with simulated intents, against the annotated label, which is itself not always right.{missed}",
    )  # fmt: skip
