"""Stage report: one self-contained page of everything that a run left, and all metrics in one flat file.

`report.html` and `metrics.json` are also copied to `reports/` of the project that holds the artifacts; `settings.json` there says what the
stages were made with whose metrics these are.
"""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from components.fer_models import ROLES
from components.lineage import lineage_tags
from components.made_with import NAME, all_settings
from components.record import Metric, Record, Table, read_metrics, read_pictures, read_tables
from components.report_page import CLASSIFIER_METRICS, classifier_outcomes, data_uri, examples, headlines, strips
from components.stages import STAGES
from components.templating import fill
from components.workspace import Workspace
from synfer.config import Common, Config
from synfer.files import sha256, whole_file, write_json
from synfer.manifest import read_manifest
from synfer.metrics.roles import expand_identities

PAGE, METRICS = "report.html", "metrics.json"
_WIDE, _MAX_WIDTH = 820, 1600  # pixels of a figure: too wide for half of the page; wider than any screen shows it


@dataclass(frozen=True)
class Shown:
    """A figure on the page: its picture as a data URI; a wide one takes the whole width."""

    uri: str
    title: str
    caption: str
    wide: bool


@dataclass(frozen=True)
class Chapter:
    """The part of the page about one stage."""

    name: str
    title: str
    text: str
    metrics: dict[str, Metric]
    figures: list[Shown]
    tables: list[Table]


@dataclass(frozen=True)
class Origin:
    """Where a stage's folder stands: number of files, size in bytes, hash."""

    stage: str
    files: int
    size: int
    sha256: str


_CHAPTERS = {
    "corpus": ("The real corpus", "Faces with expression, action units and identity; no person is in two splits."),
    "fer_models": ("Guide, annotators, judge", "Each trained on different people: nobody marks their own homework."),
    "generator": ("The generator", "A latent diffusion model with an action-unit adapter."),
    "feranno": ("FERAnno", "A head on the diffusion model's own features: what it learned about faces in order to draw them."),
    "synthesis": ("Generated faces", "Each drawn from a plan, with a seed of its own, steered by the guide."),
    "rectification": ("Rectified labels", "What was asked is a claim: models look, and each face gets a label, an action, a reason."),
    "validation": ("The gate", "Expectations on the manifest and on every image. One critical failure stops everything after it."),
    "classifiers": ("Classifiers", "Trained on real faces, on generated ones, and on both."),
    "evaluation": ("Evaluation", "On real faces that no earlier stage has seen, with intervals."),
    "audit": ("Audits", "Copies, lost or misread groups, duplicates, empty cells: it stops no stage; the verdict goes with the release."),
}
"""Title and a line of text for every stage that the page shows."""


def run(section: Config, common: Common, *, artifacts: Path, out: Path) -> None:
    """Write `report.html` and `metrics.json` to `out` and copy both to `reports/`."""
    workspace = Workspace(artifacts.parent)
    chapters = [_chapter(name, artifacts / name) for name in STAGES["report"].reads]
    metrics = {key: value for chapter in chapters for key, value in chapter.metrics.items()}
    roles = json.loads((artifacts / "fer_models" / ROLES).read_text(encoding="utf-8"))
    made_with = all_settings(STAGES["report"].reads, artifacts)
    page = fill(
        "report.html.j2",
        headlines=headlines(metrics),
        outcomes=classifier_outcomes(metrics),
        columns=CLASSIFIER_METRICS,
        chapters=chapters,
        roles=roles,
        people={role: len(expand_identities(model["trained_on"]["identities"])) for role, model in roles.items()},
        lineage=lineage_tags(workspace.root, section.corpus.source),
        origins=[_origin(name, artifacts / name) for name in STAGES["report"].reads],
        settings=yaml.safe_dump(made_with, sort_keys=False),
        studies=[path.relative_to(workspace.reports).as_posix() for path in sorted(workspace.reports.glob("studies/*.html"))],
        **_faces(common, artifacts),
    )
    with whole_file(out / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    record = Record(out)
    record.metrics |= metrics
    record.save()
    for name in (PAGE, METRICS):
        with whole_file(workspace.reports / name) as temporary:
            shutil.copyfile(out / name, temporary)
    write_json(workspace.reports / NAME, made_with)


def _faces(common: Common, artifacts: Path) -> dict[str, Any]:
    """Strips of real and generated faces, and examples of every action."""
    synthesis = artifacts / "synthesis"
    rectified = read_manifest(artifacts / "rectification")
    return {
        "strips": strips(
            artifacts / "corpus" / "development", synthesis, common.expressions, image_size=common.image_size, seed=common.seed
        ),
        "examples": examples(rectified, synthesis, image_size=common.image_size, seed=common.seed),
        "counts": rectified["action"].value_counts().to_dict(),
    }


def _chapter(name: str, folder: Path) -> Chapter:
    title, text = _CHAPTERS[name]
    pictures = [_shown(folder / "figures" / picture.file, picture.title, picture.caption) for picture in read_pictures(folder)]
    return Chapter(name, title, text, read_metrics(folder), pictures, read_tables(folder))


def _shown(path: Path, title: str, caption: str) -> Shown:
    """A figure for the page: as WebP, a tenth of its PNG, and no wider than a page on a dense screen needs."""
    with Image.open(path) as picture:
        wide = picture.width > _WIDE
        picture.thumbnail((_MAX_WIDTH, picture.height))
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "WEBP", quality=90, method=2)
    return Shown(data_uri(buffer.getvalue(), "webp"), title, caption, wide)


def _origin(name: str, folder: Path) -> Origin:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Origin(name, len(files), sum(path.stat().st_size for path in files), sha256(folder))
