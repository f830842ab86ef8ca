"""Memorisation study: ``python -m benchmarks.memorisation`` prints a table and, as its last line, the shares as JSON.

Are generated faces nearer to faces that the generator was trained on than to equally many that nobody has seen? A share of 0.5 says no. It
is measured with and without layout initialisation, whose layout images are here the very training faces compared with: the worst case.
Two more rows say what the measure can see: `control`, unseen renders in place of generated faces, must give 0.5, and `copies`, training
faces that went once through the autoencoder, show what a generator that copies would give.

A generator learns from every face and from its mirror image, so a face is as far from a reference as from the nearer of the two views,
from training and held-out ones alike.

The references are a random part of the training faces, and a copy is seen where its original is among them: if a part c of the generated
faces were copies, the share would rise by c / 2 times the part of the training faces that is compared with (`--reference`). Training faces
are drawn again from the recipe on the generator's card; the held-out ones differ in nothing but their people.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from benchmarks.program import run_study
from components.assets.renders import IMAGES_AN_IDENTITY, Range, person
from components.audits.nearest import SheetRow, Space, closest_rows, nearest_references, sheet_of, spaces
from components.audits.references import CARD, HELD_OUT, Faces, References, rendered, rendered_range
from components.device import torch_device
from components.fer_models import read_roles
from components.layouts import choose_layouts
from components.plan import plan_faces
from components.synthesis import draw_faces
from components.workspace import Workspace
from synfer.classifiers.models import Classifier, load
from synfer.config import Synthesis, load_config
from synfer.diffusion.autoencoder import reconstruct
from synfer.diffusion.backbone import Backbone, backbone_sha256, load_backbone
from synfer.errors import SynferError
from synfer.files import whole_file, write_json
from synfer.metrics.memorisation import Memorisation
from synfer.metrics.roles import JUDGE, Role, check_roles
from synfer.seeding import derive_seed

CONTROL = 850_000
"""First identity of more people who are in no training set and in no other study."""

TITLES = {
    "generated": "from noise",
    "layout": "from layouts of training faces",
    "control": "unseen renders (control)",
    "copies": "autoencoded training faces (copies)",
}
_PAIRS = 10


class StudyError(SynferError):
    """A generator whose training faces are unknown, or more references wanted than there are; the message says which."""


@dataclass(frozen=True, eq=False)
class Rendered(References):
    """References with the same places in the plan of their range, and more unseen faces for the control."""

    control: Faces


@dataclass(frozen=True, eq=False)
class Compared:
    """Images uint8 (M, H, W, 3) that are compared with the references, and the training row (M,) that each started from, if it did."""

    images: np.ndarray
    sources: np.ndarray | None = None


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    backbone: Annotated[Path, typer.Option(help="Diffusers folder with a card that names its training renders.")] = Path("assets/tiny-sd"),
    fer_models: Annotated[Path, typer.Option(help="Folder with guide and judge.")] = Path("assets/fer"),
    images: Annotated[int, typer.Option(min=8, help="Generated faces, with and without layouts.")] = 700,
    reference: Annotated[int, typer.Option(min=8, help="Training faces to compare with, and as many held-out ones.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Other references, other faces.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the sheets and all distances.")] = Path("reports/benchmarks/memorisation"),
) -> None:
    """Measure how much a generator remembers of its training faces."""
    config = load_config(Workspace.find(Path.cwd()).params)
    device = torch_device(config.common.device)
    wanted = training_range(backbone)
    check_independence(wanted, backbone, fer_models)
    loaded = load_backbone(backbone, device=device).requires_grad_(False)
    guide, judge = (load(fer_models / role, device=device) for role in ("guide", JUDGE))
    references = draw_references(wanted, reference, images, seed=seed)
    compared = {
        **draw_generated(config.synthesis, loaded, guide, references.training.images, images, seed=seed),
        "control": Compared(references.control.images),
        "copies": draw_copies(loaded, references.training.images, images, seed=seed),
    }
    known = spaces(judge, device)
    found = {space: measure(vectors, compared, references, seed=seed, title=space) for space, vectors in known.items()}
    report(found, compared, references, wanted, out, judge)


def training_range(backbone: Path) -> Range:
    """The renders that a generator was trained on, from its card; raises StudyError if the card does not name them."""
    wanted = rendered_range(backbone)
    if wanted is None:
        raise StudyError(f"{backbone / CARD} names no `renders`; only a generator whose training faces can be drawn again is measured here")
    return wanted


def check_independence(wanted: Range, backbone: Path, fer_models: Path) -> None:
    """Raise RoleConflict if the judge, in whose features faces are compared, knows the generator's people or the held-out ones."""
    generator = Role(backbone_sha256(backbone), frozenset(_people(wanted)))
    unseen = Role("", frozenset(name for first in (HELD_OUT, CONTROL) for name in _people(replace(wanted, first_identity=first))))
    check_roles({**read_roles(fer_models), "the generator": generator, "the held-out faces": unseen})


def draw_references(wanted: Range, count: int, control: int, *, seed: int) -> Rendered:
    """A random `count` of the range's faces, the faces at the same places of a range of unseen people, and `control` more unseen ones.

    So both sets have the same expressions, the same share of independent AUs and as many images a person. Raises StudyError if the range
    is too small.
    """
    if max(count, control) > wanted.count:
        raise StudyError(f"{max(count, control)} faces are wanted of a plan that has {wanted.count}")
    rng = np.random.default_rng(derive_seed("memorisation", seed))
    places, control_places = (np.sort(rng.choice(wanted.count, size, replace=False)) for size in (count, control))
    return Rendered(
        training=rendered(wanted, places, title="training faces"),
        held_out=rendered(replace(wanted, first_identity=HELD_OUT), places, title="held-out faces"),
        control=rendered(replace(wanted, first_identity=CONTROL), control_places, title="control"),
    )


def draw_generated(
    section: Synthesis, backbone: Backbone, guide: Classifier, training: np.ndarray, count: int, *, seed: int
) -> dict[str, Compared]:
    """`generated` and `layout`: faces of one plan from noise, and from layouts of training faces, as the pipeline would draw them."""
    rows = plan_faces(count, expressions=guide.classes, seed=derive_seed("memorisation plan", seed))
    sources = np.array(choose_layouts(rows["seed"], range(len(training))))
    sections = {name: section.model_copy(update={"layout": layout}) for name, layout in (("generated", "none"), ("layout", "inversion"))}

    def draw(name: str) -> np.ndarray:
        starts = tqdm(range(0, count, section.batch_size), desc=name, unit="batch")
        slices = [slice(start, start + section.batch_size) for start in starts]
        return np.concatenate([draw_faces(sections[name], backbone, guide, rows[one], layouts=training[sources[one]]) for one in slices])

    return {"generated": Compared(draw("generated")), "layout": Compared(draw("layout"), sources)}


def draw_copies(backbone: Backbone, training: np.ndarray, count: int, *, seed: int) -> Compared:
    """What a generator that copies would draw: training faces through the autoencoder."""
    rows = np.random.default_rng(derive_seed("copies", seed)).choice(len(training), count)
    return Compared(reconstruct(backbone.vae, training[rows]), rows)


def measure(space: Space, compared: Mapping[str, Compared], references: References, *, seed: int, title: str) -> dict[str, Memorisation]:
    """Memorisation of every set in one space, by the nearer view of each reference; of N references, rows from N on are mirrored ones."""
    return nearest_references({name: faces.images for name, faces in compared.items()}, references, space, seed=seed, title=title)


# --- what people see --------------------------------------------------------------------------------------------------------------


def report(
    found: Mapping[str, Mapping[str, Memorisation]],
    compared: Mapping[str, Compared],
    references: References,
    wanted: Range,
    out: Path,
    judge: Classifier,
) -> None:
    """Write sheets, `distances.parquet` and `memorisation.json` to `out`; print the table and the JSON line."""
    out.mkdir(parents=True, exist_ok=True)
    sheets = [
        _closest_pairs(found[space][name], compared[name], references, out / f"closest_{name}_{space}.png")
        for name in ("generated", "layout")
        for space in found
    ]
    with whole_file(out / "distances.parquet") as temporary:
        _distances(found, references).to_parquet(temporary)
    count = len(references.training.people)
    shares = as_json(found, compared, references=count) | {"references": count, "training_faces": wanted.count}
    write_json(out / "memorisation.json", shares)
    console = Console(width=120)
    console.print(shares_table(found, compared, references=count, title=f"{count:,} of {wanted.count:,} training faces, either view"))
    console.print(f"feature space: penultimate features of the judge, {judge.module.architecture} {judge.sha256[:12]}")
    console.print("pixel space: faces averaged to 16 x 16, distance as root mean square on a scale of 0 to 1")
    console.print(*sheets, sep="\n", soft_wrap=True)
    print(json.dumps(shares))


def as_json(found: Mapping[str, Mapping[str, Memorisation]], compared: Mapping[str, Compared], *, references: int) -> dict[str, float]:
    """`share`, `share_low`, `share_high` of generated faces in feature space; `share_layout` and so on for the other sets.

    `recovered_layout` is the share of faces whose nearest training face is the one they started from. `pixel_` is the other space.
    """
    flat: dict[str, float] = {}
    for space, results in found.items():
        prefix = "" if space == "feature" else f"{space}_"
        for name, result in results.items():
            suffix = "" if name == "generated" else f"_{name}"
            ends = {"": result.share.value, "_low": result.share.low, "_high": result.share.high}
            flat |= {f"{prefix}share{suffix}{end}": round(value, 4) for end, value in ends.items()}
            if (sources := compared[name].sources) is not None:
                flat[f"{prefix}recovered{suffix}"] = round(float(np.mean(result.training % references == sources)), 4)
    return flat


def shares_table(
    found: Mapping[str, Mapping[str, Memorisation]], compared: Mapping[str, Compared], *, references: int, title: str
) -> Table:
    """A row a set and space; 0.5 is no memorisation."""
    table = Table(title=f"Share of faces nearer to training than to held-out faces; {title}", title_justify="left", box=None)
    for name in ("faces", "space"):
        table.add_column(name)
    for name in ("share", "95 % interval", "source found", "to training", "to held-out", "n"):
        table.add_column(name, justify="right")
    for space, results in found.items():
        for name, result in results.items():
            share, sources = result.share, compared[name].sources
            recovered = "" if sources is None else f"{np.mean(result.training % references == sources):.3f}"
            distances = (f"{np.median(values):.3f}" for values in (result.training_distances, result.held_out_distances))
            interval = f"{share.low:.3f} to {share.high:.3f}"
            table.add_row(TITLES[name], space, f"{share.value:.3f}", interval, recovered, *distances, str(share.n))
    return table


def _closest_pairs(found: Memorisation, compared: Compared, references: References, path: Path) -> Path:
    """The faces nearest to a training face, above it and above the nearest held-out one, with distances; below, the layout if any."""
    rows, shown = closest_rows(found, compared.images, references, count=_PAIRS)
    if compared.sources is not None:
        training = references.training.images
        same = compared.sources[rows] == found.training[rows] % len(training)
        shown.append(SheetRow("its layout", training[compared.sources[rows]], ["found" if one else "" for one in same]))
    with whole_file(path) as temporary:
        sheet_of(shown).save(temporary, format="PNG")
    return path


def _distances(found: Mapping[str, Mapping[str, Memorisation]], references: References) -> pd.DataFrame:
    """One row a face, set and space: its nearest training and held-out person, and how far they are."""
    training, held_out = (np.array(faces.people * 2) for faces in (references.training, references.held_out))
    parts = [
        pd.DataFrame(
            {
                "faces": name,
                "space": space,
                "face": np.arange(len(result.training)),
                "training_person": training[result.training],
                "training_distance": result.training_distances,
                "held_out_person": held_out[result.held_out],
                "held_out_distance": result.held_out_distances,
            }
        )
        for space, results in found.items()
        for name, result in results.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _people(wanted: Range) -> Iterable[str]:
    return (person(wanted.first_identity + number) for number in range(-(-wanted.count // IMAGES_AN_IDENTITY)))


if __name__ == "__main__":
    run_study(app, "benchmarks.memorisation")
