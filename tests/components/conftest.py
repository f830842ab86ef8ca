"""A small world for the stages around labels: rendered faces as generated ones, an untrained generator and untrained annotators."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components import corpus, feranno
from components.audits.finding import Finding, write_verdict
from components.embedded_corpus import write_corpus
from components.record import Record
from components.release import write_release
from components.workspace import Workspace
from synfer.captions import vocabulary_corpus
from synfer.classifiers.models import create, save
from synfer.config import Config, load_config
from synfer.diffusion.backbone import save_backbone
from synfer.diffusion.latent_guide import LatentGuide, LatentNetwork
from synfer.diffusion.tiny_sd import grammar_tokenizer, tiny_autoencoder, tiny_backbone
from synfer.faces.face import draw_face
from synfer.faces.renderer import render
from synfer.files import write_json
from synfer.images import encode_png, write_shard
from synfer.manifest import write_manifest
from synfer.seeding import derive_seed
from synfer.vocabulary import AU_COUNT, DEFAULT_EXPRESSIONS, EXPRESSIONS

COUNT = 70


@pytest.fixture(scope="session")
def settings(root: Path) -> Config:
    """The laptop run with the smoke overlay."""
    return load_config(root / "params.yaml", overlays=["smoke"])


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of marked images in two shards; `expression` is right for all of them."""
    folder = tmp_path_factory.mktemp("generated") / "synthesis"
    folder.mkdir()
    asked = [DEFAULT_EXPRESSIONS[index % 7] for index in range(COUNT)]
    faces = [draw_face(derive_seed("world", index), identity=9000 + index, expression=name) for index, name in enumerate(asked)]
    images = [encode_png(pixels, generator="test") for pixels in render(faces, size=64)]
    sample_ids = [f"syn-{index:04d}" for index in range(COUNT)]
    for number, rows in enumerate((slice(0, 40), slice(40, COUNT))):
        write_shard(folder, number, sample_ids[rows], images[rows])
    frame = pd.DataFrame({"sample_id": sample_ids, "split": "train", "identity": "", "expression": asked, "caption": "a face"})
    frame["aus"] = [face.aus for face in faces]
    frame["seed"] = [face.seed for face in faces]
    frame["sha256"] = [hashlib.sha256(data).hexdigest() for data in images]
    write_manifest(frame, folder)
    Record(folder).save()
    return folder


@pytest.fixture
def rectified(generated: Path, workspace: Workspace) -> pd.DataFrame:
    """A rectified manifest of the generated faces: of every ten, the last three are softened, relabelled and rejected."""
    frame = with_decisions(pd.read_parquet(generated / "manifest.parquet"))
    workspace.artifacts.mkdir(exist_ok=True)
    workspace.stage("synthesis").symlink_to(generated)
    workspace.stage("rectification").mkdir()
    write_manifest(frame, workspace.stage("rectification"))
    Record(workspace.stage("rectification")).save()
    return frame


def with_decisions(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of rectification beside those of a generated manifest."""
    place = np.arange(COUNT) % 10
    frame["action"] = np.select([place == 9, place == 8, place == 7], ["reject", "relabel", "soften"], "keep")
    frame["label"] = np.where(place == 8, frame["expression"].shift(1), frame["expression"])
    one_hot = np.eye(len(EXPRESSIONS))[[EXPRESSIONS.index(name) for name in frame["label"]]]
    frame["posterior"] = list(0.92 * one_hot + 0.01)
    return frame.assign(entropy=0.3, agreement=1.0, reason="both annotators see it", weight=(place != 9).astype(float))


def _leave_audit(artifacts: Path, *findings: Finding, publish_sheet: bool = True) -> None:
    """What the evaluation and the audit leave for a release, with a sheet of closest pairs."""
    evaluation, audit = Record(artifacts / "evaluation"), Record(artifacts / "audit")
    evaluation.metric("generation/kid", 0.012, low=-0.003, high=0.031, n=70)
    evaluation.metric("generation/judge_accuracy/fear", 0.9, low=0.8, high=1.0, n=10)
    audit.metric("audit/judge_accuracy/skin/dark", 0.875, low=0.8, high=0.95, n=40)
    audit.metric("audit/balance/skin/dark", -0.25, low=-0.3, high=-0.2, n=50)
    audit.figure("closest_pairs", Image.new("RGB", (64, 32)), title="Closest pairs", caption="")
    for record in (evaluation, audit):
        record.save()
    passed = Finding("duplicates", "Few images repeat another one", "warning", True, "none: 0.000 (0.000 to 0.003), n = 70", "at most 0.02")
    cell = {"expression": "fear", "AU": "12", "intensity": "3 to 5", "attribute": "skin: dark", "asked": 4, "in use": 0}
    write_verdict(
        [passed, *findings], audit.out, compared=["70 generated faces in use with 70 renders"], emptiest=[cell],
        sheet="figures/closest_pairs.png", publish_sheet=publish_sheet,
    )  # fmt: skip


@pytest.fixture(scope="session")
def leave_audit() -> Callable[..., None]:
    """Writes what a release reads of evaluation and audit: `leave_audit(artifacts, *more_findings, publish_sheet=True)`."""
    return _leave_audit


@pytest.fixture(scope="session")
def release(generated: Path, settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published release of the generated faces, some of them in val, with AUs that are not known and captions that need quotes."""
    root = tmp_path_factory.mktemp("project")
    frame = with_decisions(pd.read_parquet(generated / "manifest.parquet"))
    frame["split"] = np.where(np.arange(COUNT) % 7 == 6, "val", "train")
    frame["caption"] = [f'a "face", number {index};\nä smile' for index in range(COUNT)]
    frame["aus"] = [np.where(np.arange(AU_COUNT) == index % AU_COUNT, np.nan, aus) for index, aus in enumerate(frame["aus"])]
    for stage in ("rectification", "validation"):
        (root / stage).mkdir()
        Record(root / stage).save()
    _leave_audit(root)
    write_manifest(frame, root / "rectification")
    passed = {"expectation": "There are images", "success": True, "observed": "70", "wanted": "at least 1"}
    write_json(root / "validation" / "result.json", {"success": True, "critical": [], "warning": [], "expectations": [passed]})
    folder = root / "data" / "synthetic" / "small"
    folder.mkdir(parents=True)
    stages = {name: root / name for name in ("rectification", "validation", "evaluation", "audit")} | {"synthesis": generated}
    section = settings.release.model_copy(update={"name": "small"})
    write_release(section, **stages, root=root, folder=folder)
    return folder


@pytest.fixture(scope="session")
def world(generated: Path, settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project whose corpus, fer_models, generator and synthesis are there."""
    place = Workspace(tmp_path_factory.mktemp("world"))
    write_corpus(place.data / "faces", identities=14, images_per_identity=14)
    section = settings.corpus.model_copy(update={"source": str(place.data / "faces")})
    place.stage("corpus").mkdir(parents=True)
    corpus.run(section, settings.common, out=place.stage("corpus"))
    roles = {}
    for number, role in enumerate(("annotator_0", "annotator_1")):
        model = create("resnet10t", DEFAULT_EXPRESSIONS, image_size=64, seed=number)
        digest = save(model, place.stage("fer_models") / role, {"trained_on": {"images": 0, "identities": []}})
        roles[role] = {"architecture": "resnet10t", "sha256": digest, "classes": DEFAULT_EXPRESSIONS, "trained_on": {}}
    (place.stage("fer_models") / "roles.json").write_text(json.dumps(roles), encoding="utf-8")
    tokenizer = grammar_tokenizer(vocabulary_corpus())
    backbone = tiny_backbone(tiny_autoencoder(channels=(16, 16, 16)), tokenizer, channels=(16, 32, 32), width=32)
    network = LatentNetwork(len(DEFAULT_EXPRESSIONS), channels=8, size=16, width=16)
    backbone.guide = LatentGuide(network.eval(), DEFAULT_EXPRESSIONS, "", {"trained_on": {"images": 0, "identities": []}})
    save_backbone(backbone, place.stage("generator") / "backbone")
    place.stage("synthesis").symlink_to(generated)
    return place


@pytest.fixture(scope="session")
def head(world: Workspace, settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stage feranno leaves in the small world."""
    out = tmp_path_factory.mktemp("feranno")
    development, generator = world.stage("corpus") / "development", world.stage("generator")
    feranno.run(settings.feranno, settings.common, development=development, generator=generator, out=out)
    return out
