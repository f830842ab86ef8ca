"""Rectification study: ``python -m benchmarks.rectification`` prints tables and, as its last line, their figures as JSON.

1. Generated faces of a run: label error before and after, by a judge that is neither guide nor annotator nor generator.
2. Real-role faces whose truth is known, the test split, with injected noise of a rate that no method is told: label error, errors found,
   coverage, calibration, against rivals. The test split, because FERAnno learned from training faces and val calibrates the members.
3. Downstream: a small classifier on raw, filtered and rectified labels of the training faces that no member learned from.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console

from benchmarks.program import run_study
from benchmarks.rectification.calibrated import calibration
from benchmarks.rectification.downstream import Pictures, Recipe, downstream, gains
from benchmarks.rectification.faces import Faces, read_faces
from benchmarks.rectification.figures import save_figures
from benchmarks.rectification.generated import Generated, errors, generated, judge_error
from benchmarks.rectification.report import as_json, errors_table, figures_table, methods_table
from benchmarks.rectification.run_folder import RunFolder, StudyError
from benchmarks.rectification.trial import STRICT, Trial, summary, trials
from components.workspace import Workspace
from synfer.annotation.calibration import Reliability
from synfer.classifiers.examples import class_indices
from synfer.config import load_config
from synfer.files import whole_file, write_json
from synfer.images import load_images
from synfer.metrics.bootstrap import Interval

PARTS = ("generated", "noise", "downstream")
Keys = dict[str, Interval]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    artifacts: Annotated[Path | None, typer.Option(help="Folder of a run's stages; the workspace's without it.")] = None,
    synthesis: Annotated[Path | None, typer.Option(help="Generated faces; those of the run without it.")] = None,
    judge: Annotated[Path, typer.Option(help="Classifier folder of the judge.")] = Path("assets/fer/judge"),
    parts: Annotated[str, typer.Option(help="Which parts to run.")] = ",".join(PARTS),
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the noise, and trainings of a downstream classifier.")] = 3,
    faces: Annotated[int, typer.Option(min=70, help="Training faces of a downstream classifier.")] = 1_200,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of a downstream classifier.")] = 6,
    rates: Annotated[str, typer.Option(help="Noise of the downstream labels in per cent; 0 are the annotators' own.")] = "0,20,40",
    size: Annotated[int, typer.Option(min=32, help="Side of a downstream classifier's images.")] = 64,
    quick: Annotated[bool, typer.Option(help="One seed, few faces and one epoch: does it run?")] = False,
    work: Annotated[Path | None, typer.Option(help="Folder that keeps scores and choices; in the artefacts without it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for figures and tables.")] = Path("reports/benchmarks/rectification"),
) -> None:
    """Measure how far rectified labels can be trusted."""
    workspace, wanted, noise = Workspace.find(Path.cwd()), _parts(parts), _rates(rates)
    run = RunFolder(artifacts or workspace.artifacts, load_config(workspace.params))
    kept = work or workspace.artifacts / "benchmarks" / "rectification"
    if quick:
        seeds, faces, epochs = 1, 210, 1
    keys: Keys = {}
    found: list[Trial] = []
    diagrams: dict[str, tuple[Reliability, Reliability]] = {}
    pictures: Generated | None = None
    test = _real(run, "test", kept)
    if "generated" in wanted:
        judging = run.independent_judge(judge)
        pictures = generated(run, judging, synthesis or run.stage("synthesis"), kept)
        keys |= {**errors(pictures), "judge_error": judge_error(run, judging, test)}
    if "noise" in wanted:
        section = run.config.rectification
        found = trials(test, run.held_out, classes=run.config.common.expressions, section=section, seeds=seeds)
        calibrated, diagrams = calibration(_val(run), test, run.held_out, rule=section.pool)
        targets = {"precision_target": section.target_precision, "precision_target_strict": STRICT}
        keys |= {**calibrated, **summary(found, test), **{name: Interval(value, value, value, 1) for name, value in targets.items()}}
    if "downstream" in wanted:
        keys |= _downstream(run, test, kept, seeds=seeds, count=faces, size=size, rates=noise, recipe=Recipe(epochs=epochs))
    report(keys, found, diagrams, pictures, out)


def report(
    keys: Keys, found: list[Trial], diagrams: dict[str, tuple[Reliability, Reliability]], pictures: Generated | None, out: Path
) -> None:
    """Write figures, `methods.parquet` and `rectification.json` to `out`; print the tables and the JSON line.

    The file keeps the figures of parts that were not run this time; the line has those of this time alone.
    """
    out.mkdir(parents=True, exist_ok=True)
    figures, console = save_figures(out, trials=found, diagrams=diagrams, faces=pictures), Console(width=180)
    if found:
        with whole_file(out / "methods.parquet") as temporary:
            pd.concat([trial.figures for trial in found]).to_parquet(temporary)
        console.print(methods_table(found), errors_table(found))
    path = out / "rectification.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, before | as_json(keys))
    console.print(figures_table(keys, title="Figures"))
    console.print(*figures, sep="\n", soft_wrap=True)
    print(json.dumps(as_json(keys)))


def _parts(text: str) -> list[str]:
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if strange := [part for part in wanted if part not in PARTS]:
        raise StudyError(f"unknown part {strange[0]!r}; known: {', '.join(PARTS)}")
    return wanted


def _real(run: RunFolder, split: str, work: Path) -> Faces:
    return read_faces(run, run.rows(split), run.test if split == "test" else run.development, work)


def _val(run: RunFolder) -> Faces:
    """Val as the stage saw it: the scores that calibrate the members."""
    rows = run.rows("val")
    if len(rows) != len(run.held_out.labels):
        raise StudyError(f"{len(run.held_out.labels) - len(rows)} val faces show no class of the run; their truth cannot be compared")
    truth = class_indices(rows["true_expression"].tolist(), run.config.common.expressions)
    nothing = np.zeros((len(rows), 0))
    return Faces(rows["identity"].to_numpy(dtype=str), truth, run.held_out.labels, run.held_out.members, nothing)


def _rates(text: str) -> list[float]:
    try:
        found = [float(part) / 100 for part in text.split(",")]
    except ValueError:
        raise StudyError(f"--rates are per cents such as 0,20,40, found {text!r}") from None
    if strange := [rate for rate in found if not 0 <= rate < 1]:
        raise StudyError(f"a rate lies between 0 and 99 per cent, found {100 * strange[0]:g}")
    return found


def _downstream(run: RunFolder, test: Faces, work: Path, *, seeds: int, count: int, size: int, rates: list[float], recipe: Recipe) -> Keys:
    """Part 3 on at most `count` training faces that no member has learned from."""
    rows = run.unseen_by_members().head(count)
    train = Pictures(read_faces(run, rows, run.development, work), load_images(run.development, rows["sample_id"].tolist(), size=size))
    val, known = _val(run), run.rows("val")["sample_id"].tolist()
    pictures = replace(train, faces=val, images=load_images(run.development, known, size=size))
    judged = Pictures(test, load_images(run.test, run.rows("test")["sample_id"].tolist(), size=size))
    classes = run.config.common.expressions
    choices = downstream(
        train, pictures, judged, run.held_out, classes=classes, section=run.config.rectification, seeds=seeds, recipe=recipe, rates=rates,
        work=work,
    )  # fmt: skip
    return gains(choices, test)


if __name__ == "__main__":
    run_study(app, "benchmarks.rectification")
