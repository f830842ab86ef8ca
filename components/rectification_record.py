"""What people see of a rectification: metrics with intervals, calibration, the cost of precision, and faces with the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.annotation_figures import action_bars, face_sheet, precision_coverage_figure, reliability_diagram
from components.au_check import AuCheck
from components.plots import confusion_matrices
from components.record import Record
from synfer.annotation.calibration import Reliability, chance_ece, reliability, scale
from synfer.annotation.rectifier import HeldOut, Rectified
from synfer.annotation.rectify import ACTIONS, precision_coverage
from synfer.classifiers.examples import class_indices
from synfer.images import load_images
from synfer.metrics.classification import confusion
from synfer.metrics.wilson import wilson

_SHEET = 12  # faces on a sheet


@dataclass(frozen=True)
class Outcome:
    """The rectified manifest, how it came about, and the val faces behind it; `aus` where FERAnno reads action units.

    `min_coverage` is the share of val that had to stay labelled.
    """

    frame: pd.DataFrame
    rectified: Rectified
    held_out: HeldOut
    min_coverage: float
    aus: AuCheck | None = None


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
    if outcome.aus is not None:
        _aus(record, outcome.frame, outcome.aus, images, image_size)
    record.save()


def _aus(record: Record, frame: pd.DataFrame, check: AuCheck, images: Path, image_size: int) -> None:
    """Share of faces that contradict the AUs they were asked for, what can be read at all, and the worst of them."""
    found, worst = check.contradictions.found, check.contradictions.worst
    share(record, "rectification/au_contradictions", int(found.sum()), len(found))
    record.metric("rectification/au_false_alarms", check.tolerance.false_alarms, n=check.tolerance.faces)
    record.table(f"Asked against seen action units, of {len(found)} faces", check.table())
    order = [row for row in np.argsort(-worst, kind="stable") if found[row]][:_SHEET]
    if order:
        words = check.contradictions.words()
        faces = load_images(images, frame["sample_id"].iloc[order].tolist(), size=image_size)
        record.figure(
            "sheet_aus", face_sheet(faces, [words[row] for row in order]), title="Faces that contradict their action units",
            caption="The grossest first: what was asked, and what FERAnno sees. None of them is asserted, whatever its label.",
        )  # fmt: skip


def share(record: Record, key: str, count: int, n: int) -> None:
    """Keep a share with its 95 % Wilson interval."""
    low, high = wilson(count, n)
    record.metric(key, count / n, low=low, high=high, n=n)


def _metrics(record: Record, outcome: Outcome, ece: float) -> None:
    frame, thresholds, n, n_val = outcome.frame, outcome.rectified.thresholds, len(outcome.frame), len(outcome.held_out.labels)
    share(record, "rectification/kept", int((frame["action"] != "reject").sum()), n)
    for action, key in zip(ACTIONS, ("kept_as_asked", "relabelled", "softened", "rejected"), strict=True):
        share(record, f"rectification/{key}", int((frame["action"] == action).sum()), n)
    if len(asked := frame[frame["expression"] != ""]):  # a compound expression is no label
        share(record, "rectification/agreement", int((asked["label"] == asked["expression"]).sum()), len(asked))
    if outcome.rectified.noise is not None:
        record.metric("rectification/intent_wrong", outcome.rectified.noise.wrong, n=n)
        record.metric("rectification/intent_strength", outcome.rectified.intent_strength)
    pool = outcome.rectified.pool
    record.metric("rectification/val_label_wrong", pool.noise.wrong, n=n_val)
    record.metric("rectification/ece", ece, n=n_val)
    chance = chance_ece(pool(outcome.held_out.members), confusion=pool.noise.label_given_truth)
    record.metric("rectification/ece_by_chance", chance, n=n_val)
    record.metric("rectification/target_precision", thresholds.target)
    used = round(thresholds.coverage * n_val)
    share(record, "rectification/val_precision", round(thresholds.precision * used), used)
    share(record, "rectification/val_coverage", used, n_val)
    record.metric("rectification/reject_below", thresholds.reject_below)
    record.metric("rectification/assert_from", thresholds.assert_from)


def _diagrams(outcome: Outcome) -> dict[str, tuple[Reliability, Reliability]]:
    """Reliability on val before and after calibration: of every member, and of the pool (its raw form is the mean of raw members).

    Shares right are those of the true class, corrected for the noise that was found in the labels.
    """
    members, pool = outcome.held_out.members, outcome.rectified.pool
    raw = {name: scale(scores, 1.0) for name, scores in sorted(members.items())}
    raw["pool"] = np.mean(list(raw.values()), axis=0)
    calibrated = pool.calibrated(members) | {"pool": pool(members)}

    def diagram(probabilities: np.ndarray) -> Reliability:
        return reliability(probabilities, outcome.held_out.labels, confusion=pool.noise.label_given_truth)

    return {name: (diagram(raw[name]), diagram(calibrated[name])) for name in raw}


def _tables(record: Record, outcome: Outcome, diagrams: dict[str, tuple[Reliability, Reliability]]) -> None:
    pool, rows = outcome.rectified.pool, []
    for name, probabilities in pool.calibrated(outcome.held_out.members).items():
        right = float((probabilities.argmax(axis=1) == outcome.held_out.labels).mean())
        before, after = diagrams[name]
        true = float(np.average(after.accuracy, weights=after.count))
        rows.append((name, right, true, before.ece, after.ece, pool.temperatures[name], pool.weights[name]))
    columns = ["member", "accuracy on val", "against the truth", "ECE before", "ECE after", "temperature", "weight in the pool"]
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
            ("the intent as it is", val.given == val.truth, 1.0),
            ("only where the members see the intent", (seen == val.truth)[agreed], float(agreed.mean())),
        ]
    rows += [
        ("always what the members see", seen == val.truth, 1.0),
        ("posterior of both, all images", chosen == val.truth, 1.0),
        ("posterior, not rejected (released)", (chosen == val.truth)[kept], float(kept.mean())),
        ("posterior, asserted (kept or relabelled)", (chosen == val.truth)[asserted], float(asserted.mean())),
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
    basic = frame[frame["expression"] != ""]
    asked, rectified = (class_indices(basic[column].tolist(), classes) for column in ("expression", "label"))
    counts = confusion(asked, rectified, len(classes))
    record.figure(
        "confusion", confusion_matrices({"generated faces": counts}, classes, rows="asked", columns="rectified label"),
        title="Intent against rectified label",
        caption="Per cent of what was asked; off the diagonal the generator drew something else than asked.",
    )  # fmt: skip
    record.figure(
        "reliability", reliability_diagram(diagrams), title="Calibration of the members and of their pool",
        caption=f"On {len(outcome.held_out.labels)} real val faces, with 95 % intervals; on the diagonal a confidence of 0.8 is right in "
        f"80 % of cases. Right means the true class; of the val labels, {outcome.rectified.pool.noise.wrong:.0%} seem to be wrong.",
    )  # fmt: skip
    val = outcome.rectified.simulated
    curves = {
        "members and intent": precision_coverage(val.posterior, val.truth),
        "members alone": precision_coverage(val.pooled, val.truth),
    }
    least = f"{outcome.min_coverage:.0%} of it"
    missed = "" if thresholds.reached else f" The wanted precision is out of reach on val, so the best one that covers {least} was taken."
    record.figure(
        "precision_coverage", precision_coverage_figure(curves, thresholds), title="What precision costs",
        caption=f"On val with simulated intents, against the true class as members and annotated label tell of it together.{missed}",
    )  # fmt: skip
