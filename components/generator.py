"""Stage generator: the diffusion backbone that draws the faces, as it is or fine-tuned on the corpus.

While it trains, the guide says what the drawn faces show (`generator/guide_accuracy` in MLflow and in the record). The judge is not asked
before stage evaluation, and the generator learns from nobody on whom a judge was trained, or its faces could please the judge for a
reason that is none of ours.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from components.device import torch_device
from components.fer_models import people, read_roles, unjudged
from components.fine_tuning import STRIPS, History, fine_tune
from components.generator_role import write_generator_role
from components.latent_guide import add_latent_guide, record_latent_guide
from components.looks import enlarged, progress_sheet, shrink
from components.plots import step_curves
from components.record import Record
from synfer.config import Common
from synfer.config import Generator as Section
from synfer.diffusion.autoencoder import reconstruct
from synfer.diffusion.backbone import backbone_sha256, copy_backbone, load_backbone
from synfer.errors import SynferError
from synfer.faces.sheet import labelled_sheet
from synfer.files import write_json
from synfer.images import load_images
from synfer.manifest import read_manifest
from synfer.metrics.roles import AU_JUDGE, JUDGE, Role, check_roles, compact_identities, expand_identities

CARD = "card.json"
PHOTOGRAPH = -1  # the manifest's seed of a face that nobody drew
_SHOWN = 14


class GeneratorError(SynferError):
    """A corpus that leaves nothing to learn from; the message says why."""


def run(section: Section, common: Common, *, development: Path, fer_models: Path, out: Path) -> None:
    """Write the backbone to `out/backbone`: unchanged, or adapted to the training split (`section.adapt`).

    Raises RoleConflict, before any work, if the backbone's card names people on whom a judge was trained.
    """
    if not is_finished(out):
        _run(section, common, development=development, fer_models=fer_models, work=out / "work", out=out)
    shutil.rmtree(out / "work", ignore_errors=True)  # latents and checkpoint: gigabytes that nobody needs any more


def is_finished(out: Path) -> bool:
    """Whether a killed call had finished all but the tidying."""
    return (out / "tables.json").is_file()  # the record's last file


def _run(section: Section, common: Common, *, development: Path, fer_models: Path, work: Path, out: Path) -> None:
    source, target = Path(section.backbone), out / "backbone"
    seen, history = _people_on_card(source), History()
    _check_judges(fer_models, seen)
    if section.adapt == "none":
        load_backbone(source)  # a missing part is told here, not an hour later
        _tell_photographs(source, development)
        copy_backbone(source, target)
    else:
        rows = training_rows(development, fer_models)
        seen |= frozenset(people(rows))  # nobody whom a judge knows, see training_rows
        history = fine_tune(section, common, rows, development=development, fer_models=fer_models, work=work, out=out)
        trained_on = {"images": len(rows), "identities": compact_identities(seen)}
        card = {"base": source.name, "generator": section.model_dump(mode="json", exclude={"backbone"}), "trained_on": trained_on}
        card |= {key: value for key, value in _card(source).items() if key == "renders"}  # the base learned from them, and so has this one
        write_json(target / CARD, card)
    if section.guide_steps:
        rows = training_rows(development, fer_models)
        add_latent_guide(section, common, rows, development=development, folder=target, work=work / "guide")
    write_generator_role(out, sha256=backbone_sha256(target), identities=seen)
    _record(section, common, history, development=development, strips=work / STRIPS, out=out)


def training_rows(development: Path, fer_models: Path) -> pd.DataFrame:
    """Images to learn from: the training split without the people of the judges; raises GeneratorError if there is none."""
    train = read_manifest(development).query("split == 'train'")
    rows = unjudged(train, fer_models).reset_index(drop=True)
    if rows.empty:
        raise GeneratorError(f"{development} has {len(train)} training images and none of a person whom no judge has seen")
    return rows


def _people_on_card(backbone: Path) -> frozenset[str]:
    """Whom the backbone has seen before it came here, where it has a card."""
    card = _card(backbone)
    return expand_identities(card["trained_on"]["identities"]) if card else frozenset()


def _card(backbone: Path) -> dict[str, Any]:
    """The card of a backbone, empty where it has none."""
    card = backbone / CARD
    found: dict[str, Any] = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    return found


def _tell_photographs(source: Path, development: Path) -> None:
    """Say, on stderr, where photographs meet a backbone that was made of rendered faces and fine-tuned on nothing else."""
    card = _card(source)
    photographs = int((read_manifest(development)["seed"] == PHOTOGRAPH).sum())
    if photographs and "renders" in card and "base" not in card:
        made = f"{source} has seen rendered faces only, and the corpus holds {photographs} photographs"
        tqdm.write(f"generator: {made}: what it draws is no likeness of them; generator.adapt=full fine-tunes it", file=sys.stderr)


def _check_judges(fer_models: Path, seen: frozenset[str]) -> None:
    roles = {**read_roles(fer_models), "the generator": Role("", seen)}
    for judge in (JUDGE, AU_JUDGE):
        if judge in roles:
            check_roles({judge: roles[judge], "the generator": roles["the generator"]}, judge=judge)


# --- what people see --------------------------------------------------------------------------------------------------------------


def _record(section: Section, common: Common, history: History, *, development: Path, strips: Path, out: Path) -> None:
    """How the training went, and reconstructions of real faces: what the autoencoder keeps bounds what any prompt can show."""
    record = Record(out)
    if history:
        _record_training(section, common, history, strips, record)
    _record_reconstructions(section, common, development, record)
    record_latent_guide(out / "backbone", record)
    record.save()


def _record_training(section: Section, common: Common, history: History, strips: Path, record: Record) -> None:
    losses, looks = ([point for point in history if name in point] for name in ("loss", "guide_accuracy"))
    if losses:
        record.metric("generator/loss", losses[-1]["loss"])
    if looks:
        drawn = max(section.validation_images, len(common.expressions))
        record.metric("generator/guide_accuracy", looks[-1]["guide_accuracy"], n=drawn)
        pictures = {int(path.stem): path for path in strips.glob("*.png")}
        caption = f"The same {len(common.expressions)} faces, asked for again while the generator learned ({section.adapt}); unsteered."
        record.figure("progress", progress_sheet(pictures, common.expressions), title="Faces while it trains", caption=caption)
    names = ("loss", "learning_rate", "guide_accuracy")
    curves = {name: [(point["step"], point[name]) for point in history if name in point] for name in names}
    caption = "Mean loss between two points, learning rate, and the share of drawn faces on which the guide agrees (not the judge)."
    figure = step_curves({name: points for name, points in curves.items() if points}, shares=("guide_accuracy",))
    record.figure("training", figure, title="Training of the generator", caption=caption)


def _record_reconstructions(section: Section, common: Common, development: Path, record: Record) -> None:
    backbone = load_backbone(record.out / "backbone", device=torch_device(common.device))
    rows = read_manifest(development).query("split == 'val'").head(_SHOWN)
    images = load_images(development, rows["sample_id"].tolist(), size=backbone.image_size)
    again = reconstruct(backbone.vae, images)
    record.metric("generator/parameters", sum(parameter.numel() for parameter in backbone.unet.parameters()))
    record.metric("generator/adapter_parameters", sum(parameter.numel() for parameter in backbone.au_adapter.parameters()))
    error = (torch.from_numpy(images).float() - torch.from_numpy(again).float()).abs().mean() / 255
    record.metric("generator/reconstruction_l1", float(error), n=len(rows))
    shown = shrink(np.concatenate([images, again]))
    sheet = labelled_sheet(shown, columns=len(rows), row_titles=["real", "reconstructed"], scale=enlarged(shown))
    caption = f"Backbone {Path(section.backbone).name} ({section.adapt}), sha256 {backbone_sha256(record.out / 'backbone')[:12]}."
    record.figure("reconstructions", sheet, title="What the autoencoder keeps", caption=caption)
