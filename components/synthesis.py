"""Stage synthesis: draw the planned faces with the generator, steered by the guide, shard by shard.

A finished shard is not drawn again after a kill, and a face depends on its own seed alone, so a resumed run leaves what a whole one would.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from components.device import torch_device
from components.executors.shards import Advance, Portable, actors_of, device_of, run_shards
from components.guidance import check_adapter, check_guidance, semantic_guidance, steerable, write_steering
from components.layouts import LayoutError, Layouts, choose_layouts, gather_layouts, layout_pool, open_layouts
from components.plans.rows import planned_faces
from components.record import Record
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import Classifier, load
from synfer.config import Common
from synfer.config import Synthesis as Section
from synfer.diffusion.backbone import Backbone, load_backbone
from synfer.diffusion.layout import layout_noise
from synfer.diffusion.sampling import Conditions, decode, first_timestep, sample_latents
from synfer.faces.sheet import labelled_sheet
from synfer.files import whole_file
from synfer.images import encode_png, iter_encoded, load_images, shard_path, write_shard
from synfer.manifest import stack, write_manifest
from synfer.pixels import to_tensor

_SHEET_COLUMNS, _SHEET_ROWS = 10, 40
_LAYOUTS, _PLANNED = "layouts.arrow", "planned.sha256"  # of an unfinished run alone


def run(section: Section, common: Common, *, development: Path, generator: Path, fer_models: Path, out: Path) -> None:
    """Write a dataset folder of the planned faces (`planned_faces`) with the manifest of their intents.

    `development` is read where `section.layout` asks for layout images, and then its training split alone.
    """
    plan, actors = planned_faces(section, common, inside=out), actors_of(section, common)
    layouts = out / _LAYOUTS if section.layout != "none" else None
    artist = Artist(section, generator / "backbone", fer_models / "guide", layouts, device_of(actors, common))
    here = artist if actors is None else replace(artist, device="cpu")  # the GPU is the actors'
    check_guidance(section, here.backbone, here.guide, common.expressions)
    check_adapter(section, here.backbone, stack(plan, "aus"))
    plan["layout_from"] = "" if layouts is None else choose_layouts(plan["seed"], layout_pool(development, fer_models))
    if layouts is not None:
        gather_layouts(development, plan["layout_from"], layouts)
    _forget_other_faces(plan, out)
    run_shards(artist, _shards(plan, out, section.shard_images), actors, title="synthesis")
    hashes = {sample_id: hashlib.sha256(data).hexdigest() for sample_id, data in iter_encoded(out)}
    plan["sha256"] = plan["sample_id"].map(hashes)
    write_manifest(plan, out)
    write_steering(section, here.backbone, here.guide, out)
    _record(section, common, plan, here.layouts, out)
    for left in (_LAYOUTS, _PLANNED):
        (out / left).unlink(missing_ok=True)


def _forget_other_faces(plan: pd.DataFrame, out: Path) -> None:
    """Remove what a killed run has drawn for another plan: its file, or a release that counts, may have changed since."""
    asked = "\n".join(f"{row.sample_id} {row.seed} {row.caption}" for row in plan.itertuples())
    digest = hashlib.sha256(asked.encode() + stack(plan, "aus").tobytes()).hexdigest()
    marker = out / _PLANNED
    if marker.is_file() and marker.read_text(encoding="utf-8") != digest:
        for path in [*out.glob("images-*.parquet"), out / _LAYOUTS]:
            path.unlink(missing_ok=True)
    with whole_file(marker) as temporary:
        temporary.write_text(digest, encoding="utf-8")


@dataclass(frozen=True, eq=False)
class FacesToDraw:
    """Shard `number` of the dataset folder `out`: rows of the plan."""

    rows: pd.DataFrame
    number: int
    out: Path

    @property
    def path(self) -> Path:
        """The shard's file."""
        return shard_path(self.out, self.number)

    def __len__(self) -> int:
        return len(self.rows)


def _shards(plan: pd.DataFrame, out: Path, size: int) -> list[FacesToDraw]:
    return [FacesToDraw(plan.iloc[start : start + size], number, out) for number, start in enumerate(range(0, len(plan), size))]


@dataclass(frozen=True)
class Artist(Portable):
    """Draws any shard: the folders of the backbone and of the guide that reads pixels, the file of layout images or None, the device.

    The networks are loaded when they are first needed.
    """

    section: Section
    backbone_folder: Path
    guide_folder: Path
    layouts_file: Path | None
    device: str

    @cached_property
    def backbone(self) -> Backbone:
        """The generator, in no training."""
        return load_backbone(self.backbone_folder, device=torch_device(self.device)).requires_grad_(False)

    @cached_property
    def guide(self) -> Classifier:
        """The classifier that steers in the published form."""
        return load(self.guide_folder, device=torch_device(self.device))

    @cached_property
    def layouts(self) -> Layouts | None:
        """The layout images, which `gather_layouts` has left."""
        return None if self.layouts_file is None else open_layouts(self.layouts_file)

    def __call__(self, shard: FacesToDraw, advance: Advance) -> None:
        """Draw a shard and write its file."""
        rows, backbone, images = shard.rows, self.backbone, list[bytes]()
        for start in range(0, len(rows), self.section.batch_size):
            batch = rows.iloc[start : start + self.section.batch_size]
            start_from = self.layouts.pixels(batch["layout_from"].tolist(), size=backbone.image_size) if self.layouts is not None else None
            pixels = draw_faces(self.section, backbone, self.guide, batch, layouts=start_from)
            images += [encode_png(image, generator=backbone.name) for image in pixels]
            advance(len(batch))
        write_shard(shard.out, shard.number, rows["sample_id"].tolist(), images)


def draw_faces(
    section: Section, backbone: Backbone, guide: Classifier | None, rows: pd.DataFrame, *, layouts: np.ndarray | None = None
) -> np.ndarray:
    """Faces uint8 (N, H, W, 3) of the planned `rows`; a row whose expression is none of the guide's classes is not steered.

    `guide`, which reads pixels, steers in the published form, the backbone's own in the latent form; without `guide` nothing is steered.
    Where `section.layout` is on, `layouts` are the images uint8 (N, H, W, 3) to start from; raises LayoutError without them.
    """
    faces = np.empty((len(rows), backbone.image_size, backbone.image_size, 3), dtype=np.uint8)
    steered = rows["expression"].isin(steerable(section, backbone, guide)).to_numpy()
    for chosen, by in ((steered, guide), (~steered, None)):
        if chosen.any():
            faces[chosen] = _draw(section, backbone, by, rows[chosen], layouts=None if layouts is None else layouts[chosen])
    return faces


def _draw(section: Section, backbone: Backbone, guide: Classifier | None, rows: pd.DataFrame, *, layouts: np.ndarray | None) -> np.ndarray:
    conditions = Conditions(rows["caption"].tolist(), stack(rows, "aus"), rows["seed"].tolist())
    semantic, targets = None, torch.empty(0, dtype=torch.long)
    if guide is not None:
        semantic, classes = semantic_guidance(section, backbone, guide)
        targets = torch.from_numpy(class_indices(rows["expression"].tolist(), classes)).to(backbone.device)
    latents = sample_latents(
        backbone,
        conditions,
        sampler=section.sampler,
        num_inference_steps=section.num_inference_steps,
        guidance_scale=section.guidance_scale,
        au_guidance_scale=section.au_guidance_scale,
        cfg_interval=section.cfg_interval,
        au_cfg_interval=section.au_cfg_interval,
        semantic=semantic,
        targets=targets,
        initial_noise=_initial_noise(section, backbone, conditions, layouts),
    )
    return decode(backbone, latents)


def _initial_noise(section: Section, backbone: Backbone, conditions: Conditions, layouts: np.ndarray | None) -> torch.Tensor | None:
    """Noise (N, C, h, w) with the layout of images uint8 (N, H, W, 3), where the configuration wants it."""
    if section.layout == "none":
        return None
    if layouts is None:
        raise LayoutError(
            f"synthesis.layout is {section.layout!r}, but only stage synthesis has corpus images to start from; "
            "start from noise with: --set synthesis.layout=none"
        )
    return layout_noise(
        backbone,
        to_tensor(layouts),
        seeds=conditions.seeds,
        first_timestep=first_timestep(backbone, sampler=section.sampler, num_inference_steps=section.num_inference_steps),
        num_inference_steps=section.layout_steps,
        strength=section.layout_strength,
    )


def _record(section: Section, common: Common, plan: pd.DataFrame, layouts: Layouts | None, out: Path) -> None:
    record = Record(out)
    record.metric("synthesis/images", len(plan), n=len(plan))
    kinds = _kinds(plan, common.expressions)
    shown = pd.concat([plan[kinds == name].head(_SHEET_COLUMNS) for name in kinds.cat.categories[:_SHEET_ROWS]])
    images = load_images(out, shown["sample_id"].tolist(), size=common.image_size)
    if (kinds.value_counts() >= _SHEET_COLUMNS).all():
        sheet = labelled_sheet(images, columns=_SHEET_COLUMNS, row_titles=[*kinds.cat.categories[:_SHEET_ROWS]])
    else:  # fewer faces than a full sheet: titles above each image, because rows may be uneven
        sheet = labelled_sheet(images, columns=_SHEET_COLUMNS, titles=kinds[shown.index].tolist())
    record.figure("faces", sheet, title="Generated faces", caption="The first faces of everything that was asked, unselected.")
    if layouts is not None:
        _layout_sheet(plan.head(_SHEET_COLUMNS), common, layouts, record)
    counts = kinds.value_counts(sort=False)
    kind = "cell" if plan["plan_cell"].any() else "expression"
    record.table(f"Asked {kind}s", pd.DataFrame({kind: counts.index.astype(str), "images": counts.to_numpy()}))
    record.save()


def _kinds(plan: pd.DataFrame, expressions: tuple[str, ...]) -> pd.Series:
    """What each face was asked for, as a category: the cell of its plan, in the plan's order, or its expression."""
    if not plan["plan_cell"].any():
        return plan["expression"].astype(pd.CategoricalDtype([*expressions]))
    return plan["plan_cell"].astype(pd.CategoricalDtype([*plan["plan_cell"].unique()]))


def _layout_sheet(rows: pd.DataFrame, common: Common, layouts: Layouts, record: Record) -> None:
    """The first faces, each below the corpus image whose layout it has."""
    sources = layouts.pixels(rows["layout_from"].tolist(), size=common.image_size)
    faces = load_images(record.out, rows["sample_id"].tolist(), size=common.image_size)
    sheet = labelled_sheet(np.concatenate([sources, faces]), columns=len(rows), row_titles=["layout", "generated"])
    text = "Corpus images whose inversion the denoising started from, and the faces drawn from them; look for the same person."
    record.figure("layouts", sheet, title="Layout images", caption=text)
