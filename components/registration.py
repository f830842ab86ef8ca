"""Stage registration: a trained classifier becomes a registered version with its card; through the gate it becomes `challenger`.

The first version that passes becomes `champion` at once: without one there is nothing to serve and nothing to compare with. Every later
change of champion is a person's, see `components.promotion`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.models.model import ModelInfo

from components.audits.finding import RESULT
from components.classifier_scores import RealFaces, read_test
from components.fer_models import class_probabilities
from components.promotion.gate import Finding, Scored, Verdict, check_scores, check_verdicts, compare
from components.promotion.logged_model import log_classifier
from components.promotion.model_card import model_card
from components.promotion.registry import CHALLENGER, CHAMPION, GATE, GATE_REASON, Registry
from components.record import Metric, Record, read_metrics
from components.training_record import TrainingRecordError, check_unseen
from components.workspace import Workspace
from synfer.classifiers.models import CARD, load
from synfer.config import Common, Registration
from synfer.files import write_json
from synfer.images import shard_paths
from synfer.manifest import read_manifest

LINEAGE_TAGS = ("data.dvc_md5", "git.commit", "prefect.flow_run")
CONTENT = "content"
"""Tag of a version: digest of all that it was made from."""
_RESAMPLES = 1000
_DESCRIPTION = """Facial expressions. The description of a version is its model card, with the gate's reasons.

- `champion` is in use, `challenger` is the last version that passed the gate, `previous` was champion before.
- To promote, and to roll back: on the version's page the pencil (or *Add*) beside its aliases, type `champion`, Enter, Save.
  The flow `watch-promotion` then completes the hand-over. The same on a command line: `synfer promote`, `synfer rollback`.
- The button *Promote model* is another thing: it copies a version to another registered model.
"""


def run(
    section: Registration, common: Common, *, evaluation: Path, classifiers: Path, validation: Path, audit: Path, test: Path, out: Path
) -> None:
    """Log the classifier of `section.training_set` as a pyfunc model to the open MLflow run, register it, and let the gate judge it.

    The same content is registered once: the version that an earlier call has made of it is judged again and completed, wherever that call
    was killed. The project is the folder that holds `artifacts/` with `out`.
    """
    folder = classifiers / section.training_set
    classifier = load(folder)
    metrics = metrics_of(section.training_set, read_metrics(evaluation))
    registry = Registry(Workspace(out.parent.parent), section.model_name)
    faces, verdict_files = read_test(test, read_manifest(test), common), {"validation": validation / "result.json", "audit": audit / RESULT}
    content = _content(section, common, classifier.sha256, metrics, verdict_files, test_digest(test))
    version = _version_of(registry, content) or _new_version(registry, log_classifier(classifier, folder, metrics), content)
    number = str(version.version)
    scored = Scored(number, class_probabilities(classifier, faces.images, common))
    findings = judge(registry, section, common, faces, scored, verdicts=verdict_files)
    lineage = _lineage() | {name: version.tags[name] for name in LINEAGE_TAGS if name in version.tags}  # of the run that made it
    # MLflow's list of versions keeps this order and cuts off long ones: what decides comes first.
    tags = {**_gate_tags(findings), **_metric_tags(metrics), "test.digest": test_digest(test), **lineage}
    for key, value in tags.items():
        registry.client.set_model_version_tag(section.model_name, number, key, value)
    card = model_card(
        training_set=section.training_set,
        architecture=str(classifier.card["architecture"]),
        classes=classifier.classes,
        metrics=metrics,
        findings=findings,
        lineage=lineage,
    )
    registry.client.update_model_version(section.model_name, number, description=card)
    alias = _give_alias(registry, number, findings)
    _record(out, section.model_name, number, alias, str(version.model_id), metrics, findings)
    (out / "model_card.md").write_text(card, encoding="utf-8")


def judge(
    registry: Registry, section: Registration, common: Common, faces: RealFaces, scored: Scored, *, verdicts: Mapping[str, Path]
) -> list[Finding]:
    """Every rule of the gate; `verdicts` are files of earlier stages, the champion, if there is one, predicts the same test faces now.

    A champion that was trained on these faces, since the corpus has been split anew, is compared with nobody: none would ever follow it.
    """
    findings = check_verdicts({name: _verdict(path) for name, path in verdicts.items()})
    settings: dict[str, Any] = {"people": faces.people, "resamples": _RESAMPLES, "seed": common.seed}
    findings += check_scores(section, faces.truth, scored, **settings)
    number = registry.holder(CHAMPION)
    if not number or number == scored.version:
        return findings
    try:
        predicted = _predicted_by(f"models:/{section.model_name}/{number}", faces)
    except TrainingRecordError as error:
        return [*findings, Finding("champion_unseen", True, f"not compared with champion {number}: {error}")]
    missing = [name for name in common.expressions if name not in predicted.columns]
    if missing:
        reason = f"champion {number} does not know {', '.join(missing)}: the two cannot be compared"
        return [*findings, Finding("same_classes", False, reason)]
    table = predicted[list(common.expressions)].to_numpy(dtype=np.float64)
    champion = Scored(number, table / table.sum(axis=1, keepdims=True))
    return findings + compare(section, faces.truth, scored, champion, classes=common.expressions, **settings)


def _predicted_by(uri: str, faces: RealFaces) -> pd.DataFrame:
    """What a registered model sees in the test faces; raises TrainingRecordError if it was trained on one of them or of their people."""
    with TemporaryDirectory() as temporary:
        local = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=temporary))
        for card in local.rglob(CARD):
            check_unseen(load(card.parent), card.parent, faces.rows, where="the test split")
        predicted: pd.DataFrame = mlflow.pyfunc.load_model(str(local)).predict(faces.images)
    return predicted


def test_digest(test: Path) -> str:
    """Digest of the test faces and their labels: two versions whose tags agree were measured on the same ones."""
    found = hashlib.sha256((test / "manifest.parquet").read_bytes())
    for path in shard_paths(test):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def metrics_of(training_set: str, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics of one classifier, keys without their prefix: `classifiers/real/uar` becomes `uar`."""
    prefix = f"classifiers/{training_set}/"
    return {key.removeprefix(prefix): metric for key, metric in metrics.items() if key.startswith(prefix)}


def _content(
    section: Registration, common: Common, weights: str, metrics: Mapping[str, Metric], verdicts: Mapping[str, Path], test: str
) -> str:
    """Digest of all that a version says: weights, measurements, verdicts of earlier stages, test faces, the limits of the gate."""
    facts = {
        "section": section.model_dump(mode="json"),
        "common": common.model_dump(mode="json", exclude={"device", "threads"}),
        "weights": weights,
        "metrics": {key: asdict(metric) for key, metric in metrics.items()},
        "verdicts": {name: asdict(_verdict(path)) for name, path in verdicts.items()},
        "test": test,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _version_of(registry: Registry, content: str) -> ModelVersion | None:
    """The version that has been made of this content, if there is one."""
    if not registry.exists:
        return None
    found = registry.client.search_model_versions(f"name = '{registry.name}' and tag.`{CONTENT}` = '{content}'")
    return min(found, key=lambda version: int(version.version), default=None)


def _new_version(registry: Registry, info: ModelInfo, content: str) -> ModelVersion:
    """Register a logged model, the first time under a new name. (`mlflow.register_model` would print.)

    The tag of its content comes in the same step, so that there is no moment at which a killed call leaves a version that nobody knows.
    """
    if not registry.exists:
        registry.client.create_registered_model(registry.name, description=_DESCRIPTION)
    return registry.client.create_model_version(
        registry.name, source=info.model_uri, run_id=info.run_id, model_id=info.model_id, tags={CONTENT: content}
    )


def _lineage() -> dict[str, str]:
    """The tags of the open run that lead back to data, code and flow run."""
    run = mlflow.active_run()
    tags: dict[str, str] = run.data.tags if run is not None else {}
    return {name: tags[name] for name in LINEAGE_TAGS if name in tags}


def _verdict(path: Path) -> Verdict:
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Verdict(bool(result["success"]), tuple(result.get("critical", ())), tuple(result.get("warning", ())))


def _gate_tags(findings: list[Finding]) -> dict[str, str]:
    """What a promoter reads beside the version: the verdict, and every reason, the bad ones first."""
    ordered = sorted(findings, key=lambda finding: finding.passed)
    passed = all(finding.passed for finding in findings)
    validated = next(finding.passed for finding in findings if finding.rule == "validation")
    return {
        GATE: "passed" if passed else "failed",
        GATE_REASON: "; ".join(finding.reason for finding in ordered if passed or not finding.passed),
        "validation_status": "passed" if validated else "failed",
    }


def _give_alias(registry: Registry, number: str, findings: list[Finding]) -> str:
    """Alias of a version that passed: challenger, or champion where there is none; an empty string for one that did not."""
    if registry.holder(CHAMPION) == number:
        registry.hand_over(by="registration")  # where a kill came before its end
        return CHAMPION
    if not all(finding.passed for finding in findings):
        return ""
    if not registry.holder(CHAMPION):
        registry.crown(number)
        return CHAMPION
    registry.challenge(number)
    return CHALLENGER


def _metric_tags(metrics: Mapping[str, Metric]) -> dict[str, str]:
    return {f"metric.{key}": f"{metric.value:.4f}" for key, metric in metrics.items() if "/" not in key}


def _record(
    out: Path, name: str, number: str, alias: str, model_id: str, metrics: Mapping[str, Metric], findings: list[Finding]
) -> None:
    record = Record(out)
    record.metric("registration/version", int(number))
    record.metric("registration/uar", metrics["uar"].value, low=metrics["uar"].low, high=metrics["uar"].high, n=metrics["uar"].n)
    record.metric("registration/gate", float(all(finding.passed for finding in findings)))
    rows = {"model": name, "version": number, "alias": alias or "none: the gate held it back", "uri": f"models:/{name}/{number}"}
    record.table("Registered model", pd.DataFrame({"what": list(rows), "value": list(rows.values())}))
    table = [{"rule": finding.rule, "holds": "yes" if finding.passed else "no", "why": finding.reason} for finding in findings]
    record.table("Gate before promotion", pd.DataFrame(table))
    record.save()
    write_json(out / "registration.json", {"model": name, "version": int(number), "alias": alias, "model_id": model_id})
