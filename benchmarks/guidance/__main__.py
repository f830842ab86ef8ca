"""Semantic guidance study: ``python -m benchmarks.guidance`` prints a table and, as its last line, the figures as JSON.

The same faces are drawn without guidance, under the published form (decode, classify pixels, second forward) and under the latent form,
over a range of lambda. A guided generator can please its guide without showing the expression, and please the judge with faces that no
camera would see: so beside the judge's accuracy stand the gap between guide and judge, precision and KID against real test faces, how far
each face has gone from the unguided one of its seed, variety within the classes, and sheets to look at.
"""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks.guidance.arms import FORMS, UNGUIDED, Arm, Drawn, arms, cost_is_wall_time, draw
from benchmarks.guidance.figures import save_figures
from benchmarks.guidance.measures import look, measure
from benchmarks.guidance.report import Figures, arms_table, as_json, best, write_predictions
from benchmarks.program import run_study
from components.classifier_scores import read_test
from components.device import torch_device
from components.fer_models import read_roles
from components.generator import CARD
from components.guidance import latent_guide
from components.latent_guide_role import read_latent_guide_role
from components.plan import plan_faces
from components.workspace import Workspace
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import Classifier, load
from synfer.classifiers.predict import features
from synfer.config import Config, load_config
from synfer.diffusion.backbone import backbone_sha256, load_backbone
from synfer.errors import SynferError
from synfer.files import write_json
from synfer.manifest import read_manifest
from synfer.metrics.image import kid_floor
from synfer.metrics.roles import JUDGE, Role, check_roles, expand_identities

_PLAN_SEED = 606_060  # no other report draws this plan

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class StudyError(SynferError):
    """Strengths that cannot be read; the message says which."""


@app.command()
def main(
    backbone: Annotated[Path, typer.Option(help="Diffusers folder with a latent guide.")] = Path("assets/tiny-sd"),
    fer_models: Annotated[Path, typer.Option(help="Folder with guide (of pixels) and judge.")] = Path("assets/fer"),
    real: Annotated[Path, typer.Option(help="Dataset folder whose test split is the real one.")] = Path("data/faces"),
    images: Annotated[int, typer.Option(min=16, help="Faces an arm.")] = 350,
    strengths: Annotated[str, typer.Option(help="Values of lambda.")] = "0.02,0.05,0.1,0.2",
    out: Annotated[Path, typer.Option(help="Folder for plot, sheets, figures and every prediction.")] = Path("reports/benchmarks/guidance"),
) -> None:
    """Measure what semantic guidance costs, wins and breaks."""
    config, study = load_config(Workspace.find(Path.cwd()).params), arms(parse_strengths(strengths))
    device = torch_device(config.common.device)
    check_independence(backbone, fer_models, real)
    loaded = load_backbone(backbone, device=device).requires_grad_(False)
    latent_guide(loaded)  # its absence is told here, not after an hour
    guide, judge = (load(fer_models / role, device=device) for role in ("guide", JUDGE))
    rows = plan_faces(images, expressions=config.common.expressions, seed=_PLAN_SEED)
    drawn = draw(study, config.synthesis, loaded, guide, rows)
    seen = {arm: look(arm, faces.images, backbone=loaded, guide=guide, judge=judge, common=config.common) for arm, faces in drawn.items()}
    real_features = features_of_real(real, judge, config)
    truth = class_indices(rows["expression"].tolist(), config.common.expressions)
    found = measure(drawn, seen, truth, real_features, wall=cost_is_wall_time(device))
    out.mkdir(parents=True, exist_ok=True)
    write_predictions(out / "predictions.parquet", rows, seen, config.common.expressions)
    report(found, drawn, real_features, rows["expression"].tolist(), out, wall=cost_is_wall_time(device))


def parse_strengths(text: str) -> list[float]:
    """`0.02,0.05` as numbers in rising order; raises StudyError if one is none or not positive."""
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise StudyError(f"strengths {text!r} are not numbers with commas between them, for example 0.02,0.05") from None
    if found[0] <= 0:
        raise StudyError(f"strengths are positive, found {found[0]:g}; the unguided faces are drawn anyway")
    return found


def check_independence(backbone: Path, fer_models: Path, real: Path) -> None:
    """Raise RoleConflict if the judge knows weights or people of a guide, an annotator, the generator or the real test faces."""
    card = backbone / CARD
    trained_on = json.loads(card.read_text(encoding="utf-8")).get("trained_on", {}) if card.is_file() else {}
    rows = read_manifest(real).query("split == 'test'")
    check_roles(
        {
            **read_roles(fer_models),
            **read_latent_guide_role(backbone),
            "the generator": Role(backbone_sha256(backbone), expand_identities(trained_on.get("identities", ()))),
            "the real test faces": Role("", frozenset(rows["identity"]) - {""}),
        }
    )


def features_of_real(real: Path, judge: Classifier, config: Config) -> np.ndarray:
    """The judge's features (M, D) of the real test faces."""
    faces = read_test(real, read_manifest(real).query("split == 'test'"), config.common)
    return features(judge, faces.images, device=torch_device(config.common.device))


def report(found: Figures, drawn: Mapping[Arm, Drawn], real: np.ndarray, expressions: list[str], out: Path, *, wall: bool) -> None:
    """Write plot, sheets and `guidance.json` to `out`; print the table and the JSON line."""
    picked = {UNGUIDED.form: UNGUIDED, **{form: best(found, form) for form in FORMS}}
    seconds = {arm: faces.seconds(wall=wall) for arm, faces in drawn.items()}
    flat = as_json(found, picked, kid_floor(real), seconds)
    write_json(out / "guidance.json", flat)
    clock = "wall time" if wall else "processor time"
    console = Console(width=200)
    console.print(arms_table(found, seconds, title=f"{len(expressions)} faces an arm; cost in {clock}, real: {len(real)} test faces"))
    console.print("reported: " + ", ".join(f"{arm}" for arm in picked.values()))
    console.print(*save_figures(found, drawn, picked, expressions, out), sep="\n", soft_wrap=True)
    print(json.dumps(flat))


if __name__ == "__main__":
    run_study(app, "benchmarks.guidance")
