"""Control study: ``python -m benchmarks.control`` prints tables and, as its last line, their figures as JSON.

Is every AU graded (rank correlation and slope of read against asked intensity), local (what the others change by), sided, and mirrored with
the wish? Is one token per AU better than one token for all? What do AUs and guidance add to the expression?
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from benchmarks.control.expressions import judged_expressions
from benchmarks.control.figures import save_figures
from benchmarks.control.judges import independent_judges
from benchmarks.control.report import as_json, figures_table, summary, units_table
from benchmarks.control.rivals import RIVALS, Data, train_rival, training_faces, training_latents
from benchmarks.control.sweep import FIRST_PERSON, Sweep, generated, parse_units, rendered, sweep
from benchmarks.program import run_study
from components.assets.renders import GENERATOR, IMAGES_AN_IDENTITY
from components.device import torch_device
from components.workspace import Workspace
from synfer.classifiers.models import Classifier, load
from synfer.config import Synthesis, load_config
from synfer.diffusion.backbone import Backbone, load_backbone
from synfer.files import whole_file, write_json
from synfer.metrics.bootstrap import Interval

COMPARED = ("spearman_mean", "slope_mean", "leakage", "separation")
"""Figures that are reported of the rival adapters."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Study:
    """What is measured with which models."""

    codes: tuple[str, ...]
    section: Synthesis
    backbone: Backbone
    judge: Classifier
    au_judge: Classifier
    guide: Classifier

    def swept(self, backbone: Backbone, people: int, title: str) -> Sweep:
        """The sweep of a generator, read by the AU judge."""
        draw = generated(backbone, self.section)
        return sweep(draw, self.au_judge, self.codes, people=people, batch_size=self.section.batch_size, title=title)

    def swept_renders(self, people: int) -> Sweep:
        """The sweep of renders of the same people."""
        draw = rendered(self.backbone.image_size)
        return sweep(draw, self.au_judge, self.codes, people=people, batch_size=self.section.batch_size, title="renders")


@app.command()
def main(
    backbone: Annotated[Path, typer.Option(help="Diffusers folder with an AU adapter.")] = Path("assets/tiny-sd"),
    fer_models: Annotated[Path, typer.Option(help="Folder of guide, annotators, judge and au_judge.")] = Path("assets/fer"),
    units: Annotated[str, typer.Option(help="AUs to sweep, for example 12,L12,4; all that the renderer draws without it.")] = "",
    seeds: Annotated[int, typer.Option(min=2, help="People, each with one seed, that every AU is swept on.")] = 30,
    rival_steps: Annotated[int, typer.Option(min=0, help="Training steps of both rival adapters; 0 leaves them out.")] = 400,
    rival_seeds: Annotated[int, typer.Option(min=2, help="People that the rivals are swept on.")] = 8,
    rival_faces: Annotated[int, typer.Option(min=64, help="Renders that the rivals learn from.")] = 2_000,
    images: Annotated[int, typer.Option(min=0, help="Faces a form whose expression is judged; 0 leaves them out.")] = 700,
    out: Annotated[Path, typer.Option(help="Folder for figures, sheets and every reading.")] = Path("reports/benchmarks/control"),
) -> None:
    """Measure the AU control of a generator."""
    workspace = Workspace.find(Path.cwd())
    config, codes = load_config(workspace.params), parse_units(units)
    device = torch_device(config.common.device)
    own = chain(range(FIRST_PERSON, FIRST_PERSON + seeds), range(GENERATOR, GENERATOR + -(-rival_faces // IMAGES_AN_IDENTITY)))
    judge, au_judge = independent_judges(fer_models, backbone, people=own, device=device)
    loaded = load_backbone(backbone, device=device).requires_grad_(False)
    study = Study(codes, config.synthesis, loaded, judge, au_judge, load(fer_models / "guide", device=device))
    sweeps = {"generated": study.swept(loaded, seeds, "generated"), "renders": study.swept_renders(max(seeds, rival_seeds))}
    found = summary(sweeps["generated"], sweeps["renders"])
    if rival_steps:
        data = training_latents(loaded, training_faces(rival_faces, size=loaded.image_size), workspace.artifacts / "benchmarks" / "control")
        sweeps |= rival_sweeps(study, data, steps=rival_steps, people=rival_seeds)
        found |= rival_figures(sweeps)
    if images:
        found |= judged_expressions(config.synthesis, loaded, study.guide, judge, images=images)
    report(sweeps, found, out)


def rival_sweeps(study: Study, data: Data, *, steps: int, people: int) -> dict[str, Sweep]:
    """The same sweep of both rival adapters, freshly trained."""
    rivals = {name: train_rival(study.backbone, tokens, data, steps=steps, title=name) for name, tokens in RIVALS.items()}
    return {name: study.swept(rival, people, name) for name, rival in rivals.items()}


def rival_figures(sweeps: dict[str, Sweep]) -> dict[str, Interval]:
    """`leakage_single_token` and its like."""
    found = {name: summary(sweeps[name], sweeps["renders"]) for name in RIVALS}
    return {f"{figure}_{name}": found[name][figure] for figure in COMPARED for name in RIVALS}


def report(sweeps: dict[str, Sweep], found: dict[str, Interval], out: Path) -> None:
    """Write figures, sheets, `readings.parquet` and `control.json` to `out`; print the tables and the JSON line."""
    out.mkdir(parents=True, exist_ok=True)
    figures = save_figures(sweeps["generated"], sweeps["renders"], out)
    with whole_file(out / "readings.parquet") as temporary:
        pd.concat([rows.table(source) for source, rows in sweeps.items()]).to_parquet(temporary)
    write_json(out / "control.json", as_json(found))
    console = Console(width=120)
    console.print(units_table(sweeps["generated"], sweeps["renders"]))
    console.print(figures_table(found, title="Over all AUs"))
    console.print(*figures, sep="\n", soft_wrap=True)
    print(json.dumps(as_json(found)))


if __name__ == "__main__":
    run_study(app, "benchmarks.control")
