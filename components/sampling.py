"""Trying a prompt: a few generated faces from Python or by `synfer sample`.

    from components.sampling import Sampler

    sampler = Sampler.load()
    faces = sampler("happiness", aus={"L12": 2}, n=4)
    faces.sheet.save("faces.png")
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from components.device import torch_device
from components.guidance import check_adapter
from components.sample_folder import write_samples
from components.sample_plan import plan_samples
from components.stages import TRAIN_HERE
from components.synthesis import draw_faces
from components.workspace import Workspace, WorkspaceError
from synfer.captions import person
from synfer.classifiers.models import Classifier, load
from synfer.config import Config, Synthesis, validate
from synfer.diffusion.backbone import Backbone, load_backbone
from synfer.errors import SynferError
from synfer.faces.sheet import labelled_sheet
from synfer.images import encode_png, resize
from synfer.manifest import stack
from synfer.prompt import Prompt, Sweep, make_prompt
from synfer.vocabulary import ATTRIBUTES, AU_NAMES

EMBEDDED = Path(__file__).resolve().parents[1] / "assets"
_SHEET_COLUMNS = 8
_CELL = 128  # pixels a face on the sheet, about
_LARGEST_CELL = 256
_ROW_TITLE = 26  # letters a line


class SamplingError(SynferError):
    """A caption that the text encoder would cut, or a sample of no face."""


@dataclass(frozen=True)
class Samples:
    """Generated faces: images uint8 (N, H, W, 3), their manifest rows (without `sha256`), one labelled sheet, the generator's name."""

    images: np.ndarray
    rows: pd.DataFrame
    sheet: Image.Image
    generator: str

    def save(self, folder: str | Path) -> Path:
        """Write sheet, PNG files and manifest to `folder`, whole or not at all; returns the sheet's path.

        An earlier sample there is replaced; any other content raises SampleFolderError.
        """
        return write_samples(Path(folder), self.rows, [encode_png(image, generator=self.generator) for image in self.images], self.sheet)


class Sampler:
    """A generator that is ready to draw; call it with a prompt."""

    def __init__(self, backbone: Backbone, *, guide: Path, settings: Synthesis) -> None:
        self.backbone, self.settings, self._guide = backbone, settings, guide

    @classmethod
    def load(
        cls,
        backbone: str | Path = EMBEDDED / "tiny-sd",
        *,
        guide: str | Path = EMBEDDED / "fer" / "guide",
        settings: Synthesis | None = None,
        device: str = "auto",
    ) -> Sampler:
        """Read a diffusers folder, the embedded weights by default; `guide` is read when semantic guidance first asks for it.

        Raises BackboneError or DeviceError.
        """
        loaded = load_backbone(Path(backbone), device=torch_device(device)).requires_grad_(False)
        return cls(loaded, guide=Path(guide), settings=settings or Synthesis())

    @classmethod
    def of_project(cls, config: Config, workspace: Workspace) -> Sampler:
        """The sampler of a configuration: its backbone and guide, or those that the stages of the project have trained.

        Raises WorkspaceError if the configuration says to train and the stage has not run.
        """
        trained = config.generator.adapt != "none" or config.generator.guide_steps > 0
        backbone = _made(workspace, "generator/backbone") if trained else workspace.resolve(config.generator.backbone)
        source = config.fer_models.source
        guide = _made(workspace, "fer_models/guide") if source == TRAIN_HERE else workspace.resolve(source) / "guide"
        return cls.load(backbone, guide=guide, settings=config.synthesis, device=config.common.device)

    def __call__(
        self,
        expression: str = "",
        *,
        aus: Mapping[str, float] | None = None,
        attributes: Mapping[str, str] | None = None,
        caption: str | None = None,
        sweeps: Iterable[Sweep | str] = (),
        n: int | None = None,
        seed: int = 0,
        **settings: object,
    ) -> Samples:
        """`make_prompt` and `draw` in one call; raises VocabularyError on a prompt that is wrong, else what `draw` raises."""
        prompt = make_prompt(expression, aus=aus, attributes=attributes, caption=caption, sweeps=sweeps)
        return self.draw(prompt, n=n, seed=seed, **settings)

    def draw(self, prompt: Prompt, *, n: int | None = None, seed: int = 0, **settings: object) -> Samples:
        """Draw `n` faces of a prompt, 8 by default, or `n` people of every sweep, 1 by default; see `plan_samples` for what they show.

        `settings` replace those of section `synthesis`: `guidance_scale`, `au_guidance_scale`, `semantic_guidance`,
        `num_inference_steps`, `sampler`, ... In a sweep semantic guidance would pull every column to the expression, so it is off unless
        asked for here; it is off, too, where the guide has no such class: no expression, a compound one. Raises ConfigError on a setting
        that is wrong, SamplingError on a caption that is too long.
        """
        changed = {"semantic_guidance": 0.0, **settings} if prompt.sweeps else settings
        section = validate({"synthesis": {**self.settings.model_dump(), **changed}}).synthesis
        count = n if n is not None else 1 if prompt.sweeps else 8
        if count < 1:
            raise SamplingError(f"n is {count}; a sample has at least one face")
        self._check_caption(prompt)
        rows = plan_samples(prompt, n=count, seed=seed)
        check_adapter(section, self.backbone, stack(rows, "aus"))
        images = self._draw(section, rows)
        return Samples(images, rows, _sheet(prompt, section, rows, images, name=self.backbone.name, seed=seed), self.backbone.name)

    @cached_property
    def guide(self) -> Classifier:
        """The classifier of semantic guidance."""
        return load(self._guide, device=self.backbone.device)

    def _draw(self, section: Synthesis, rows: pd.DataFrame) -> np.ndarray:
        asked = section.semantic_guidance > 0 and (rows["expression"] != "").any()
        guide = self.guide if asked else None
        starts = range(0, len(rows), section.batch_size)
        parts = [
            draw_faces(section, self.backbone, guide, rows.iloc[start : start + section.batch_size])
            for start in tqdm(starts, desc="sample", unit_scale=section.batch_size, unit="face", disable=len(starts) == 1)
        ]
        return np.concatenate(parts)

    def _check_caption(self, prompt: Prompt) -> None:
        tokenizer = self.backbone.tokenizer
        length = len(tokenizer(prompt.caption or "").input_ids)
        if length > tokenizer.model_max_length:
            limit = tokenizer.model_max_length
            raise SamplingError(f"the caption has {length} tokens, the text encoder of {self.backbone.name} reads {limit}; shorten it")


def _made(workspace: Workspace, folder: str) -> Path:
    """A folder that a stage has left."""
    if not workspace.stage(folder).is_dir():
        raise WorkspaceError(f"artifacts/{folder} does not exist; make it with: synfer run {folder.split('/')[0]}")
    return workspace.stage(folder)


# --- the sheet --------------------------------------------------------------------------------------------------------------------


def _sheet(prompt: Prompt, section: Synthesis, rows: pd.DataFrame, images: np.ndarray, *, name: str, seed: int) -> Image.Image:
    cells = np.stack([resize(image, min(image.shape[0], _LARGEST_CELL)) for image in images])
    scale = max(1, _CELL // cells.shape[1])
    heading = f"{_asked(prompt)}    ({name}, seed {seed}, guidance {section.guidance_scale:g}, AU guidance {section.au_guidance_scale:g})"
    if not prompt.sweeps:
        people = [f"{row['attr_age']} {row['attr_sex']}" for _, row in rows.iterrows()] if prompt.caption is None else None
        return labelled_sheet(cells, columns=min(len(cells), _SHEET_COLUMNS), titles=people, heading=heading, scale=scale)
    columns = len(prompt.sweeps[0].intensities)
    alike = len({sweep.intensities for sweep in prompt.sweeps}) == 1
    shown = [f"{value:g}" for value in rows["swept_intensity"]]
    return labelled_sheet(
        cells, columns=columns, row_titles=[_row_title(row) for _, row in rows.iloc[::columns].iterrows()], heading=heading, scale=scale,
        column_titles=shown[:columns] if alike else None, titles=None if alike else shown,
    )  # fmt: skip


def _asked(prompt: Prompt) -> str:
    """The prompt in a line: "happiness, AU 12 = 3"."""
    parts = [prompt.caption or "", prompt.expression, *(f"AU {code} = {value:g}" for code, value in prompt.aus.items())]
    parts += [f"{name}={value}" for name, value in prompt.attributes.items()]
    parts += [f"AU {sweep.au} from {sweep.intensities[0]:g} to {sweep.intensities[-1]:g}" for sweep in prompt.sweeps]
    return ", ".join(filter(None, parts)) or "nothing asked"


def _row_title(row: pd.Series) -> str:
    """What is swept, and on whom."""
    known = {name: row[f"attr_{name}"] for name in ATTRIBUTES if row[f"attr_{name}"]}
    lines = [f"AU {row['swept_au']} {AU_NAMES[row['swept_au']]}", *(textwrap.wrap(person(known), _ROW_TITLE) if known else [])]
    return "\n".join(lines)
