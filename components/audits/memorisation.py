"""Does the generator repeat the faces that it learned from? Its faces are compared with training faces and with as many unseen ones.

Half of the faces lie nearer to a training face by chance. Where a part c of them were copies of the training faces that are compared with,
the share would be 0.5 + c / 2; among the tenth that lies nearest to any reference, a tenth of copies already gives 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from components.device import torch_device
from components.fer_models import people
from components.generator_role import read_generator_role
from components.intervals import cell, keep
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
_CANDIDATES = 60  # rendered faces of either kind, for each that is compared, among whose recipes the references are looked for
_SPACES = {FEATURE: "judge's features", PIXEL: "pixels"}
_KNOWN = {"renders": "training renders", "corpus": "training faces of the corpus", "layouts": "layout images"}


@dataclass(frozen=True, eq=False)
class Source:
    """Pools of faces that the generator knows and that it does not; `drawn` ones show nobody, so that pictures of them may be published."""

    name: str
    text: str
    pools: tuple[Pool, Pool]
    drawn: bool


@dataclass(frozen=True, eq=False)
class Generated:
    """Generated faces: sample ids, pixels uint8 (N, H, W, 3), and what was asked of them, float (N, D)."""

    sample_ids: list[str]
    images: np.ndarray
    asked: np.ndarray


@dataclass(frozen=True, eq=False)
class Comparison:
    """Generated faces beside the references of one source in one space."""

    source: Source
    space: str
    references: References
    found: Memorisation

    @property
    def key(self) -> str:
        """Of findings and metrics."""
        return f"memorisation/{self.source.name}/{self.space}"


@dataclass(eq=False)
class Outcome:
    """Findings; in words what was compared and what could not be; whether there is a sheet, and whether it may be published."""

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
    if rows.empty:
        return _unmeasured(["no image is in use"], section)
    chosen = _choose(rows, section.faces, seed=common.seed)
    sources, unknown = known_sources(chosen, section, common, development=development, generator=generator)
    if not sources:
        return _unmeasured(unknown, section)
    outcome = Outcome(compared=unknown)
    names = chosen["sample_id"].tolist()
    generated = Generated(names, load_images(synthesis, names, size=common.image_size), conditions(chosen))
    device = torch_device(common.device)
    known = spaces(load(fer_models / JUDGE, device=device), device)
    comparisons = [one for source in sources for one in _compare(source, generated, known, section, common)]
    _record(comparisons, generated, section, outcome, record)
    return outcome


def _unmeasured(why: list[str], section: Audit) -> Outcome:
    wanted, title = f"{WANTED} at most {section.max_memorised:g}", "The generator does not repeat its training faces"
    return Outcome([unmeasured("memorisation", title, "; ".join(why), wanted=wanted)], why)


def known_sources(
    chosen: pd.DataFrame, section: Audit, common: Common, *, development: Path, generator: Path
) -> tuple[list[Source], list[str]]:
    """What the generator has learned from and can be looked at, and in words what cannot be.

    Renders by the card of the backbone, faces of the corpus by the people of the generator's role, layout images by those that the `chosen`
    rows name; the corpus' references that it has not seen are those of val.
    """
    sources, unknown = [], []
    wanted = rendered_range(generator / "backbone")
    if wanted is None:
        unknown.append("faces that the backbone had seen before it came here are not known: its card names no renders")
    else:
        pools = render_pools(wanted, _CANDIDATES * section.faces, size=common.image_size, seed=common.seed)
        sources.append(Source("renders", f"{wanted.count:,} renders that the backbone was trained on", pools, drawn=True))
    frame = read_manifest(development)
    seen = people(frame).isin(read_generator_role(generator).identities)
    unseen = frame[(frame["split"] == "val") & ~seen]
    for name, text, training in (
        ("corpus", "corpus faces that it was trained on", frame[(frame["split"] == "train") & seen]),
        ("layouts", "corpus faces from whose layout the drawing started", frame[frame["sample_id"].isin(chosen.get("layout_from", []))]),
    ):
        pools = _corpus_pools(name, training, unseen, development, common)
        if min(map(len, pools)) >= _LEAST:
            sources.append(Source(name, f"{len(training):,} {text}", pools, drawn="true_expression" in frame))
        elif len(training):
            unknown.append(f"the {len(training):,} {text} could not be looked at: val has {len(unseen):,} faces to compare with")
    return sources, unknown


def _corpus_pools(name: str, training: pd.DataFrame, unseen: pd.DataFrame, development: Path, common: Common) -> tuple[Pool, Pool]:
    if name == "corpus":
        return corpus_pools(training, unseen, development, size=common.image_size, seed=common.seed)
    return corpus_pool(training, development, size=common.image_size), corpus_pool(unseen, development, size=common.image_size)


def _choose(rows: pd.DataFrame, count: int, *, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(derive_seed("audited faces", seed))
    return rows.iloc[np.sort(rng.choice(len(rows), min(count, len(rows)), replace=False))]


def _compare(source: Source, generated: Generated, known: Mapping[str, Space], section: Audit, common: Common) -> Iterator[Comparison]:
    """One source in every space."""
    references = choose_references(generated.asked, *source.pools, count=section.faces, seed=common.seed)
    for space, vectors in known.items():
        (found,) = nearest_references({source.name: generated.images}, references, vectors, seed=common.seed, title=space).values()
        yield Comparison(source, space, references, found)


# --- what people see --------------------------------------------------------------------------------------------------------------


def _record(comparisons: list[Comparison], generated: Generated, section: Audit, outcome: Outcome, record: Record) -> None:
    texts: dict[str, list[dict[str, object]]] = {}
    for one in comparisons:
        outcome.findings += _findings(one, section)
        count = len(one.references.training.people)
        against = f"{count:,} of the {one.source.text}, and with as many that it has not seen"
        text = f"{len(generated.images):,} generated faces in use with {against}"
        texts.setdefault(text, []).append(_distances(one))
        outcome.publishable &= one.source.drawn
        keep(record, f"audit/{one.key}", one.found.share)
        keep(record, f"audit/{one.key}_closest", one.found.share_closest)
    for text, rows in texts.items():
        record.table(f"Memorisation: {text}", pd.DataFrame(rows))
    outcome.compared[:0] = texts
    _sheet(comparisons, generated, record)
    outcome.has_sheet = True


def _findings(one: Comparison, section: Audit) -> list[Finding]:
    title = f"No copies of {_KNOWN[one.source.name]} (by {_SPACES[one.space]})"
    limit = section.max_memorised
    return [
        at_most(one.key, title, "critical", one.found.share, limit, what=WANTED),
        at_most(f"{one.key}_closest", f"{title}, closest {CLOSEST:.0%}", "critical", one.found.share_closest, limit, what=WANTED),
    ]


def _distances(one: Comparison) -> dict[str, object]:
    found = one.found
    return {
        "distance in": _SPACES[one.space],
        "nearer to a training face (0.5 by chance)": cell(found.share),
        f"of the closest {CLOSEST:.0%}": f"{cell(found.share_closest)}, n = {found.share_closest.n}",
        "median distance to training": float(np.median(found.training_distances)),
        "to unseen": float(np.median(found.held_out_distances)),
        "smallest to training": float(found.training_distances.min()),
        "smallest to unseen": float(found.held_out_distances.min()),
    }


def _sheet(comparisons: list[Comparison], generated: Generated, record: Record) -> None:
    rows = []
    for one in comparisons:
        shown, (drawn, training, held_out) = closest_rows(one.found, generated.images, one.references, count=_PAIRS)
        titles = [generated.sample_ids[row] for row in shown]
        rows += [replace(drawn, name=f"generated\n({one.source.name}, {_SPACES[one.space]})", titles=titles), training, held_out]
    text = (
        "The generated faces that lie nearest to a training face; below each that face and the nearest one of a person whom the generator "
        "has never seen, with distances. A copy would resemble its training face as no stranger does."
    )
    record.figure(SHEET, sheet_of(rows), title="Closest pairs of generated and training faces", caption=text)
