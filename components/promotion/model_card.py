"""The model card: what a version is, how it was measured, how to call it; MLflow shows it as the version's description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.promotion.gate import Finding
from components.record import Metric

_HEADLINES = {
    "accuracy": "Accuracy (WAR)",
    "uar": "Mean class recall (UAR)",
    "macro_f1": "Macro F1",
    "nll": "Negative log-likelihood",
    "ece": "Calibration error (ECE)",
}


def model_card(
    *,
    training_set: str,
    architecture: str,
    classes: tuple[str, ...],
    metrics: Mapping[str, Metric],
    findings: Sequence[Finding],
    lineage: Mapping[str, str],
) -> str:
    """Markdown card of a classifier; `metrics` are those of its training set, without prefix, measured on real test faces."""
    recalls = {key.removeprefix("recall/"): metric for key, metric in metrics.items() if key.startswith("recall/")}
    rows = [(title, metrics[key]) for key, title in _HEADLINES.items() if key in metrics]
    rows += [(f"Recall of {name}", metric) for name, metric in recalls.items()]
    return "\n".join(
        [
            f"# Facial expressions, {architecture}, trained on {training_set}",
            "",
            f"Classes: {', '.join(classes)}. Measured on the real test split, whose people and faces no training stage received.",
            "",
            "| metric | value (interval) | faces |",
            "| --- | --- | --- |",
            *(f"| {title} | {_value(metric)} | {metric.n or ''} |" for title, metric in rows),
            "",
            f"## Gate before promotion: {'passed' if all(finding.passed for finding in findings) else 'FAILED'}",
            "",
            *(f"- {'passed' if finding.passed else 'FAILED'}: {finding.reason}" for finding in findings),
            "",
            "Input: `image`, uint8 (N, H, W, 3) of any size, or a DataFrame whose column `image` holds PNG, JPEG or WebP bytes. "
            "Output: `label`, one column a class with its probability, `model_version`.",
            "",
            "Lineage: " + ", ".join(f"{name} `{value}`" for name, value in lineage.items()) + ".",
            "",
            "Not for decisions about people: an expression is not an emotion, and the groups that the data leaves out are not measured.",
        ]
    )


def _value(metric: Metric) -> str:
    """In one column, for MLflow's page sets columns without any space between them."""
    interval = "" if metric.low is None or metric.high is None else f" ({metric.low:.3f} to {metric.high:.3f})"
    return f"{metric.value:.3f}{interval}"
