"""Does the generator repeat the faces that it learned from? Its faces are compared with training faces and with as many unseen ones.

Half of the faces lie nearer to a training face by chance. Where a part c of them were copies of the training faces that are compared with,
the share would be 0.5 + c / 2; among the tenth that lies nearest to any reference, a tenth of copies already gives 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from components.audits.finding import SHEET, Finding, at_most, unmeasured
from components.audits.nearest import FEATURE, PIXEL, Space, closest_rows, nearest_references, sheet_of, spaces
from components.audits.references import (
    Pool,
    References,
    choose_references,
    conditions,
    corpus_pool,
    corpus_pools,
    render_pools,
    rendered_range,
)
from components.classifier_scores import cell, keep
from components.device import torch_device
from components.fer_models import people
from components.generator_role import read_generator_role
from components.record import Record
from synfer.classifiers.models import load
from synfer.config import Audit, Common
from synfer.images import load_images
from synfer.manifest import read_manifest
from synfer.metrics.memorisation import CLOSEST, Memorisation
from synfer.metrics.roles import JUDGE
from synfer.seeding import derive_seed

WANTED = "share nearer to a training face"
_PAIRS = 10
_LEAST = 8  # references of either kind below which a comparison says nothing
_SPACES = {FEATURE: "judge's features", PIXEL: "pixels"}


@dataclass(frozen=True, eq=False)
class Source:
    """Faces that the generator knows and faces that it does not; `drawn` ones show nobody, so that pictures of them may be published."""

    name: str
    text: str
    drawn: bool
    references: Callable[[np.ndarray], References]


@dataclass(eq=False)
class Outcome:
    """Findings, what was compared and what could not be, in words, and whether a sheet was made that may be published."""

    findings: list[Finding] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)
    has_sheet: bool = False
    publishable: bool = True


def audit_memorisation(
    rows: pd.DataFrame,
    section: Audit,
    common: Common,
    *,
    development: Path,
    fer_models: Path,
    generator: Path,
    synthesis: Path,
    record: Record,
) -> Outcome:
    """Compare the faces of `rows` (those in use), at most `section.faces`, with what the generator has learned from; record all of it."""
    outcome = Outcome()
    rng = np.random.default_rng(derive_seed("audited faces", common.seed))
    chosen = rows.iloc[np.sort(rng.choice(len(rows), min(section.faces, len(rows)), replace=False))]
    if len(chosen):
        images = load_images(synthesis, chosen["sample_id"].tolist(), size=common.image_size)
        judge = load(fer_models / JUDGE, device=torch_device(common.device))
        known = spaces(judge, torch_device(common.device))
        blocks = []
        for source in sources(chosen, section, common, development=development, generator=generator, told=outcome.compared):
            references = source.references(conditions(chosen))
            outcome.compared.append(_compared(source, references, len(chosen)))
            blocks += _measure(source, references, images, known, section, common, outcome, record)
            outcome.publishable &= source.drawn
        _record_sheet(blocks, chosen["sample_id"].tolist(), outcome, record)
    if not outcome.findings:
        why = "; ".join(outcome.compared) or "no image is in use"
        wanted = f"{WANTED} at most {section.max_memorised:g}"
        outcome.findings.append(unmeasured("memorisation", "The generator does not repeat its training faces", why, wanted=wanted))
    return outcome


def sources(
    chosen: pd.DataFrame, section: Audit, common: Common, *, development: Path, generator: Path, told: list[str]
) -> Iterator[Source]:
    """What the generator has learned from and can be looked at: renders, the corpus, layout images; `told` gets what cannot be."""
    wanted = rendered_range(generator / "backbone")
    if wanted is not None:
        pools = render_pools(wanted, size=common.image_size, seed=common.seed)
        yield _source("renders", f"{wanted.count:,} renders that the backbone was trained on", pools, section, common, drawn=True)
    frame = read_manifest(development)
    known = people(frame).isin(read_generator_role(generator).identities)
    unseen = frame[(frame["split"] == "val") & ~known]
    started = frame[frame["sample_id"].isin(chosen["layout_from"])] if "layout_from" in chosen else frame[:0]
    drawn = "true_expression" in frame
    for name, training, text in (
        ("corpus", frame[(frame["split"] == "train") & known], "corpus faces that it was trained on"),
        ("layouts", started, "corpus faces from whose layout the drawing started"),
    ):
        if not len(training):
            continue
        if name == "corpus":
            pools = corpus_pools(training, unseen, development, size=common.image_size, seed=common.seed)
        else:
            pools = corpus_pool(training, development, size=common.image_size), corpus_pool(unseen, development, size=common.image_size)
        if min(map(len, pools)) < _LEAST:
            told.append(f"{len(training):,} {text} could not be compared with: val has only {len(unseen):,} faces that it has not seen")
            continue
        yield _source(name, f"{len(training):,} {text}", pools, section, common, drawn=drawn)
    if wanted is None:
        told.append("faces that the backbone had seen before it came here are not known: its card names no renders")


def _source(name: str, text: str, pools: tuple[Pool, Pool], section: Audit, common: Common, *, drawn: bool) -> Source:
    def references(asked: np.ndarray) -> References:
        return choose_references(asked, *pools, count=section.faces, seed=common.seed)

    return Source(name, text, drawn, references)


def _compared(source: Source, references: References, faces: int) -> str:
    count = len(references.training.people)
    return f"{faces:,} generated faces in use with {count:,} of the {source.text}, and with as many that it has not seen"


def _measure(
    source: Source,
    references: References,
    images: np.ndarray,
    known: dict[str, Space],
    section: Audit,
    common: Common,
    outcome: Outcome,
    record: Record,
) -> list[tuple[str, Memorisation, np.ndarray, References]]:
    """Findings and metrics of one source in every space; returns what the sheet shows."""
    blocks, table = [], []
    for space, vectors in known.items():
        (found,) = nearest_references({"generated": images}, references, vectors, seed=common.seed, title=space).values()
        key = f"memorisation/{source.name}/{space}"
        for name, value, which in (
            (key, found.share, ""),
            (f"{key}_closest", found.share_closest, f", closest {CLOSEST:.0%}"),
        ):
            title = f"Generated faces are no nearer to {source.name} that the generator knows ({_SPACES[space]}{which})"
            keep(record, f"audit/{name}", value)
            outcome.findings.append(at_most(name, title, "critical", value, section.max_memorised, what=WANTED))
        table.append(_distances(space, found))
        blocks.append((f"{source.name}, {_SPACES[space]}", found, images, references))
    record.table(f"Memorisation: {_compared(source, references, len(images))}", pd.DataFrame(table))
    return blocks


def _distances(space: str, found: Memorisation) -> dict[str, object]:
    return {
        "distance in": _SPACES[space],
        "nearer to a training face (0.5 by chance)": cell(found.share),
        f"of the closest {CLOSEST:.0%}": f"{cell(found.share_closest)}, n = {found.share_closest.n}",
        "median distance to training": float(np.median(found.training_distances)),
        "to unseen": float(np.median(found.held_out_distances)),
        "smallest to training": float(found.training_distances.min()),
        "smallest to unseen": float(found.held_out_distances.min()),
    }


def _record_sheet(
    blocks: list[tuple[str, Memorisation, np.ndarray, References]], sample_ids: list[str], outcome: Outcome, record: Record
) -> None:
    if not blocks:
        return
    rows = []
    for name, found, images, references in blocks:
        shown, (generated, training, held_out) = closest_rows(found, images, references, count=_PAIRS)
        rows += [replace(generated, name=f"generated\n({name})", titles=[sample_ids[row] for row in shown]), training, held_out]
    text = (
        "The generated faces that lie nearest to a training face; below each that face and the nearest one of a person whom the generator "
        "has never seen, with distances. A copy would resemble its training face as no stranger does."
    )
    record.figure(SHEET, sheet_of(rows), title="Closest pairs of generated and training faces", caption=text)
    outcome.has_sheet = True
