"""The faces that all studies share: a corpus whose labels are partly hidden, the models of its own, and generated faces in blocks.

`artifacts/studies/pool/<hash>/` holds artifacts of its own, which the pipeline's stages make. Generated faces come in blocks of as many as
there are labelled real ones; block k depends on its own seed alone, so that a set of one block is the beginning of a set of five, and a
later study adds blocks to those that are there. A killed block goes on with its shards, as the stage does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.stages import TRAIN_HERE, run_stage
from components.studies.cell import SYNTHETIC, UNLABELLED, Cell
from components.studies.division import divide
from components.studies.pseudo_labels import write_pseudo_labels
from components.workspace import Workspace
from synfer.config import EXECUTION, Config
from synfer.files import sha256, whole_folder
from synfer.images import shard_paths
from synfer.manifest import FILE_NAME, read_manifest, write_manifest
from synfer.seeding import derive_seed

TEXT, AUS, GUIDANCE, RECTIFICATION = "text", "aus", "guidance", "rectification"
_BASE = ("common", "corpus", "fer_models", "generator", "feranno")
_MODELS = ("fer_models", "generator", "feranno")
_IDLE = {"common": ("device", "threads"), "synthesis": ("images", "series", "batch_size", "shard_images"), "rectification": ("batch_size",)}
_SEED_LIMIT = 10**9  # short enough for a sample's id


@dataclass(frozen=True)
class Drawing:
    """How faces are drawn: what differs from section synthesis, and whether their labels are rectified or are what was asked."""

    changes: Mapping[str, Any]
    rectified: bool


DRAWINGS = {
    TEXT: Drawing({"au_guidance_scale": 0.0, "au_cfg_interval": (0.0, 1.0), "semantic_guidance": 0.0}, rectified=False),
    AUS: Drawing({"semantic_guidance": 0.0}, rectified=False),
    GUIDANCE: Drawing({}, rectified=False),
    RECTIFICATION: Drawing({}, rectified=True),
}
"""The parts of the method, each with those before it."""


@dataclass(frozen=True)
class Job:
    """A piece of work before the cells: its name, the faces that it draws, and the images that the generator learns from."""

    title: str
    run: Callable[[], Path]
    draws: int = 0
    adapts: int = 0


class Pool:
    """The shared faces of one configuration."""

    def __init__(self, config: Config, workspace: Workspace, *, block: int) -> None:
        self.config, self.workspace, self.block = config, workspace, block
        self.digest = _digest(_sections(config, _BASE), config.studies.labelled, *_source_digests(config, workspace))
        self.folder = workspace.studies / "pool" / self.digest
        self.base = workspace.with_artifacts(self.folder)

    @property
    def corpus(self) -> Path:
        """Folders `development` (labelled train, and val), `unlabelled` (its `expression` is empty) and `test`."""
        return self.base.stage("corpus")

    def faces(self, drawn: str, number: int) -> Workspace:
        """The artifacts in which a block was drawn."""
        drawing = _digest(_sections(self.synthesis(drawn), ("synthesis",)))
        return self.workspace.with_artifacts(self.folder / f"faces-{drawing}" / f"{self.block}-{number}")

    def labels(self, drawn: str, number: int) -> Workspace:
        """The artifacts in which a block was rectified."""
        return self.workspace.with_artifacts(self.faces(drawn, number).artifacts / f"labels-{self._labelling}")

    @property
    def pseudo_labels(self) -> Path:
        """Dataset folder without images: the manifest of the unlabelled faces with the members' labels."""
        return self.folder / f"pseudo-labels-{self._labelling}"

    @property
    def _labelling(self) -> str:
        return _digest(_sections(self.config, ("rectification",)))

    def digest_of(self, drawn: str) -> str:
        """Hash of how faces are drawn and labelled."""
        labelling = self._labelling if DRAWINGS[drawn].rectified else ""
        return _digest(_sections(self.synthesis(drawn), ("synthesis",)), labelling)

    def synthesis(self, drawn: str) -> Config:
        """The configuration with which these faces are drawn."""
        section = self.config.synthesis.model_copy(update={**DRAWINGS[drawn].changes, "images": self.block, "series": 0})
        return self.config.model_copy(update={"synthesis": section})

    def jobs(self, cells: Iterable[Cell]) -> list[Job]:
        """What must be made before these cells can run, in order; what is there is left out."""
        parts = [part for cell in cells for part in cell.parts]
        blocks: dict[str, int] = {}
        for part in parts:
            if part.faces == SYNTHETIC:
                blocks[part.drawn] = max(blocks.get(part.drawn, 0), -(-part.count // self.block))
        unlabelled = any(part.faces == UNLABELLED for part in parts)
        jobs = {self.corpus: Job("corpus", self._make_corpus)}
        if blocks or unlabelled:
            jobs |= {self.base.stage(name): self._model_job(name) for name in _MODELS}
        if unlabelled:
            jobs[self.pseudo_labels] = Job("pseudo-labels of the unlabelled faces", self._make_pseudo_labels)
        for drawn, count in blocks.items():
            for number in range(count):
                jobs |= self._block_jobs(drawn, number, count)
        return [job for place, job in jobs.items() if not place.is_dir()]

    # --- the work -----------------------------------------------------------------------------------------------------------------

    def _make_corpus(self) -> Path:
        """Stage corpus in a folder beside, and from it the corpus of the studies, which hides the labels of some people."""
        whole = self.workspace.with_artifacts(self.folder / "whole")
        source = run_stage("corpus", self.config, whole)
        frame = read_manifest(source / "development")
        train, val = frame[frame["split"] == "train"], frame[frame["split"] == "val"]
        labelled, unlabelled = divide(train, self.config.studies.labelled, seed=self.config.common.seed)
        with whole_folder(self.corpus) as work:
            _view(source / "development", pd.concat([labelled, val]), work / "development")
            mixed = np.random.default_rng(derive_seed(self.config.common.seed, "studies", "unlabelled")).permutation(len(unlabelled))
            _view(source / "development", _without_labels(unlabelled.iloc[mixed]), work / "unlabelled")  # any beginning is a fair sample
            _view(source / "test", read_manifest(source / "test"), work / "test")
        shutil.rmtree(self.folder / "whole")
        return self.corpus

    def _model_job(self, name: str) -> Job:
        section = getattr(self.config, name)
        adapts = 0
        if name == "generator" and section.adapt != "none":
            adapts = section.steps * section.batch_size * section.gradient_accumulation
        return Job(name, lambda: run_stage(name, self.config, self.base), adapts=adapts)

    def _make_pseudo_labels(self) -> Path:
        with whole_folder(self.pseudo_labels) as work:
            write_pseudo_labels(self.config, self.base, self.corpus / "unlabelled", work)
        return self.pseudo_labels

    def _block_jobs(self, drawn: str, number: int, count: int) -> dict[Path, Job]:
        """Drawing and, where wanted, rectification of a block, by the folder that it leaves."""
        where = f"block {number + 1} of {count}"
        title = f"synthesis ({drawn}), {where}"
        jobs = {self.faces(drawn, number).stage("synthesis"): Job(title, lambda: self._draw(drawn, number), draws=self.block)}
        if DRAWINGS[drawn].rectified:
            jobs[self.labels(drawn, number).stage("rectification")] = Job(f"rectification, {where}", lambda: self._rectify(drawn, number))
        return jobs

    def _draw(self, drawn: str, number: int) -> Path:
        config = self.synthesis(drawn)
        seed = derive_seed(config.common.seed, "studies", "block", number) % _SEED_LIMIT
        config = config.model_copy(update={"common": config.common.model_copy(update={"seed": seed})})
        return run_stage("synthesis", config, self._linked(self.faces(drawn, number)))

    def _rectify(self, drawn: str, number: int) -> Path:
        place = self._linked(self.labels(drawn, number))
        _link(self.faces(drawn, number).stage("synthesis"), place.stage("synthesis"))
        return run_stage("rectification", self.config, place)

    def _linked(self, place: Workspace) -> Workspace:
        """The block's artifacts, in which the stages find the pool's corpus and models."""
        for name in ("corpus", *_MODELS):
            _link(self.base.stage(name), place.stage(name))
        return place


def _view(source: Path, rows: pd.DataFrame, folder: Path) -> None:
    """A dataset folder of some of the rows, whose shards are those of `source`."""
    folder.mkdir()
    for shard in shard_paths(source):
        os.link(shard, folder / shard.name)
    write_manifest(rows, folder)


def _without_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without what anybody has said of their expression."""
    told = [name for name in ("true_expression", "votes") if name in rows.columns]
    return rows.drop(columns=told).assign(expression="", caption="")


def _link(target: Path, link: Path) -> None:
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)


def _sections(config: Config, names: tuple[str, ...]) -> dict[str, Any]:
    """Sections as plain values, without the keys that change no result."""
    return {name: getattr(config, name).model_dump(mode="json", exclude={*_IDLE.get(name, ()), *EXECUTION}) for name in names}


def _source_digests(config: Config, workspace: Workspace) -> list[str]:
    """Hashes of what lies outside: the corpus' manifest, the backbone, the cards of the FER models; "" for what is not here."""
    files = [workspace.resolve(config.corpus.source) / FILE_NAME, workspace.resolve(config.generator.backbone)]
    if config.fer_models.source != TRAIN_HERE:
        files += sorted(workspace.resolve(config.fer_models.source).glob("*/card.json"))
    return [sha256(file) if file.exists() else "" for file in files]


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]
