"""CARD.md of a release, a datasheet (Gebru et al., arXiv 1803.09010): head for machines, text for people, counts in both."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from PIL import Image

from components.audits.finding import status
from components.audits.groups import title
from components.lineage import EMBEDDED, lineage_tags
from components.made_with import read_settings
from components.record import Metric, read_metrics
from components.releases.counts import Counts
from components.releases.folder import CARD, ReleaseError, iter_tables
from components.releases.hub import size_category
from components.templating import fill
from synfer.annotation.rectify import ACTIONS
from synfer.config import Release
from synfer.images import iter_encoded
from synfer.manifest import FILE_NAME
from synfer.vocabulary import ATTRIBUTES, AU_COUNT, EXPRESSIONS

_COUNTS = "## Counts"


def write_card(
    section: Release,
    checked: Mapping[str, Any],
    verdict: Mapping[str, Any],
    *,
    stages: Sequence[Path],
    evaluation: Path,
    audit: Path,
    root: Path,
    folder: Path,
) -> Path:
    """Write the card of the release in `folder`, whose manifest and shards are there.

    `stages` are those whose metrics it shows, `evaluation` and `audit` have sections of their own; `checked` is the result of the gate,
    `verdict` that of the audit.
    """
    columns = pq.read_schema(folder / FILE_NAME).names
    counts = Counts.of(row for table in iter_tables(folder / FILE_NAME) for row in table.to_pylist())
    software, side = _first_image(folder)
    text = fill(
        "CARD.md.j2",
        head=_head(section, counts, side),
        counts=counts_text(counts),
        name=section.name,
        license=section.license,
        image_size=side,
        software=software,
        metrics={key: value for stage in stages for key, value in read_metrics(stage).items()},
        expectations=checked["expectations"],
        evaluation={key: value for key, value in read_metrics(evaluation).items() if key.split("/")[-1] not in EXPRESSIONS},
        verdict=verdict,
        status=status(verdict),
        groups=group_table(read_metrics(audit)),
        au_count=AU_COUNT,
        columns=columns,
        members=[name.removeprefix("p_") for name in columns if name.startswith("p_")],
        lineage=lineage_tags(root, _corpus_source(audit.parent / "corpus")),
    )
    (folder / CARD).write_text(text, encoding="utf-8")
    return folder / CARD


def group_table(metrics: Mapping[str, Metric]) -> list[tuple[str, Metric | None, Metric | None]]:
    """A row a group of people of whom the audit has enough images: its name, the change of its share, the judge's accuracy on it."""
    found: dict[tuple[str, str], dict[str, Metric]] = {}
    for key, value in metrics.items():
        parts = key.split("/")
        if len(parts) == 4 and parts[1] in ("balance", "judge_accuracy"):
            found.setdefault((parts[2], parts[3]), {})[parts[1]] = value
    ordered = [(name, value) for name, values in ATTRIBUTES.items() for value in values if (name, value) in found]
    return [(title(*group), found[group].get("balance"), found[group].get("judge_accuracy")) for group in ordered]


def _head(section: Release, counts: Counts, side: int) -> str:
    """YAML in the hub's terms, and under `synfer` what `synfer verify` compares."""
    head = {
        "pretty_name": section.name,
        "license": section.license.lower(),
        "task_categories": ["image-classification"],
        "tags": ["synthetic", "facial-expression-recognition", "action-units"],
        "size_categories": [size_category(counts.images)],
        "synfer": {"image_size": side, "counts": counts.stated()},
    }
    return yaml.safe_dump(head, sort_keys=False, width=120)


def _corpus_source(corpus: Path) -> str:
    """Where the stage in `corpus` got its faces; of one that left no word of it, the embedded ones."""
    made = read_settings(corpus)
    return str(made["corpus"]["source"]) if made else EMBEDDED


def _first_image(folder: Path) -> tuple[str, int]:
    """What drew the images, by the mark of the first, and their side in pixels: one generator draws all of them, and squares."""
    _, data = next(iter_encoded(folder, batch_size=1))
    with Image.open(io.BytesIO(data)) as image:
        return str(image.info.get("Software", "unknown")), image.width


def counts_text(counts: Counts) -> str:
    """The section of the card that holds its counts, without a final line break."""
    return fill("card_counts.md.j2", counts=counts, actions=list(ACTIONS)).strip()


def read_head(path: Path) -> dict[str, Any]:
    """The head of a card; raises ReleaseError if there is none."""
    parts = path.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    try:
        head = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except yaml.YAMLError as error:
        raise ReleaseError(f"its head is not YAML: {error}") from error
    if not isinstance(head, dict) or not isinstance(head.get("synfer"), dict):
        raise ReleaseError("it has no head that states counts; a release of an older version is made anew with: synfer run release")
    return head


def stated_lines(path: Path) -> list[str]:
    """The lines of a card's section of counts."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    start = lines.index(_COUNTS) if _COUNTS in lines else len(lines)
    end = next((number for number in range(start + 1, len(lines)) if lines[number].startswith("## ")), len(lines))
    return "\n".join(lines[start:end]).strip().split("\n")
