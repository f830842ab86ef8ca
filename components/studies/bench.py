"""What the cells of a study work with: the configuration, the shared faces as training examples, val, and the test split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from components.classifier_scores import RealFaces, read_test
from components.corpus import check_identities
from components.device import torch_device
from components.studies.cell import LABELLED, SYNTHETIC, UNLABELLED, Cell, Part
from components.studies.division import StudyError, nested_order
from components.studies.pool import DRAWINGS, Pool
from components.training_examples import labelled_examples, real_examples, rectified_examples
from components.workspace import Workspace
from synfer.classifiers.examples import Examples, concatenate
from synfer.config import Common, Config
from synfer.images import load_images
from synfer.manifest import read_manifest
from synfer.seeding import derive_seed

_OF_THE_STAGE = {"training_sets", "train_images", "epochs", "steps", "pretrain", "pretrain_epochs"}
_KEPT = 12  # blocks of generated faces that stay in memory


class Bench:
    """The faces of one study run; what it hands out is read once."""

    def __init__(self, config: Config, workspace: Workspace, pool: Pool) -> None:
        self.config, self.workspace, self.pool = config, workspace, pool
        self._synthetic = lru_cache(_KEPT)(self._read_block)
        self._real = lru_cache(4)(self._read_real)

    @property
    def common(self) -> Common:
        """Section common."""
        return self.config.common

    @property
    def device(self) -> torch.device:
        """The device that the configuration names."""
        return torch_device(self.common.device)

    def seed(self, cell: Cell) -> int:
        """Seed of a cell's training: that of all arms with the same repeat, so that they start from the same weights."""
        return derive_seed(self.common.seed, "studies", "training", cell.repeat)

    def surroundings(self, cell: Cell) -> dict[str, Any]:
        """What a cell's result depends on beside its own settings."""
        classifiers = self.config.classifiers.model_dump(mode="json", exclude=_OF_THE_STAGE)
        drawn = {part.drawn: self.pool.digest_of(part.drawn) for part in cell.parts if part.faces == SYNTHETIC}
        pseudo = self.pool.pseudo_labels.name if any(part.faces == UNLABELLED for part in cell.parts) else ""
        return {"pool": self.pool.digest, "block": self.pool.block, "drawn": drawn, "pseudo": pseudo, "classifiers": classifiers}

    def examples(self, parts: Sequence[Part], *, repeat: int) -> Examples:
        """The training examples of a cell; a share of the labelled faces is another one with every seed."""
        return concatenate([self._part(part, repeat) for part in parts])

    def rows(self, part: Part, *, repeat: int = 0) -> tuple[Path, pd.DataFrame]:
        """Dataset folder and rows of the real faces of a part."""
        if part.faces == LABELLED:
            rows = self.labelled
            order = rows if part.count >= len(rows) else nested_order(rows, seed=derive_seed(self.common.seed, "studies", "share", repeat))
            return self.pool.corpus / "development", order.iloc[: part.count]
        return self.pool.corpus / "unlabelled", read_manifest(self.pool.pseudo_labels).iloc[: part.count]

    @property
    def labelled(self) -> pd.DataFrame:
        """Rows of the labelled real training faces, in an order in which any beginning has the class shares of the whole."""
        frame = read_manifest(self.pool.corpus / "development")
        return nested_order(frame[frame["split"] == "train"], seed=derive_seed(self.common.seed, "studies", "order"))

    def val(self) -> Examples:
        """The real val faces with their labels."""
        return self._real("val", 0, 0)

    def test(self) -> RealFaces:
        """The real test split; raises CorpusError if a person of it is also in training or val, StudyError if an image of it is."""
        rows = read_manifest(self.pool.corpus / "test")
        others = pd.concat([read_manifest(self.pool.corpus / name) for name in ("development", "unlabelled")])
        check_identities(pd.concat([others, rows]), where="training, val and test")
        if (met := rows["sha256"].isin(others["sha256"])).any():
            first = rows.loc[met, "sample_id"].iloc[0]
            raise StudyError(f"{met.sum()} of {len(rows)} test images are also in training or val, for example {first}")
        return read_test(self.pool.corpus / "test", rows, self.common)

    def images(self, parts: Sequence[Part], *, repeat: int) -> np.ndarray:
        """Images uint8 (N, S, S, 3) of the parts, without their labels; of unlabelled faces also those that the annotators reject."""
        return np.concatenate([self._images(part, repeat) for part in parts])

    def captioned(self, parts: Sequence[Part], *, repeat: int) -> tuple[np.ndarray, list[str]]:
        """Images uint8 (N, S, S, 3) of the parts and their captions, without generated faces that do not show what was asked."""
        found = [pair for part in parts for pair in self._captioned(part, repeat)]
        return np.concatenate([images for images, _ in found]), [text for _, texts in found for text in texts]

    def synthetic_rows(self, drawn: str, number: int) -> pd.DataFrame:
        """Manifest of a block of generated faces, rectified where the drawing says so."""
        if DRAWINGS[drawn].rectified:
            return read_manifest(self.pool.labels(drawn, number).stage("rectification"))
        return read_manifest(self.pool.faces(drawn, number).stage("synthesis"))

    # --- reading ------------------------------------------------------------------------------------------------------------------

    def _part(self, part: Part, repeat: int) -> Examples:
        if part.faces == SYNTHETIC:
            blocks = range(-(-part.count // self.pool.block))
            found = concatenate([self._synthetic(part.drawn, number) for number in blocks])
            return found.take(np.arange(min(part.count, len(found))))
        return self._real(part.faces, part.count, repeat)

    def _images(self, part: Part, repeat: int) -> np.ndarray:
        if part.faces != UNLABELLED:
            return self._part(part, repeat).images
        folder, rows = self.rows(part, repeat=repeat)
        return load_images(folder, rows["sample_id"].tolist(), size=self.common.image_size)

    def _captioned(self, part: Part, repeat: int) -> list[tuple[np.ndarray, list[str]]]:
        if part.faces != SYNTHETIC:
            places = [self.rows(part, repeat=repeat)]
        else:
            blocks, left = range(-(-part.count // self.pool.block)), part.count % self.pool.block
            rows = [self.synthetic_rows(part.drawn, number) for number in blocks]
            rows[-1] = rows[-1].iloc[: left or None]
            told = [each[shows_what_was_asked(each)] for each in rows]
            places = [(self.pool.faces(part.drawn, number).stage("synthesis"), each) for number, each in zip(blocks, told, strict=True)]
        size = self.common.image_size
        return [(load_images(folder, each["sample_id"].tolist(), size=size), each["caption"].tolist()) for folder, each in places]

    def _read_real(self, faces: str, count: int, repeat: int) -> Examples:
        """Real faces: labelled ones with their votes, unlabelled ones with the members' labels, val with its labels."""
        classes, size = self.common.expressions, self.common.image_size
        if faces == "val":
            folder = self.pool.corpus / "development"
            frame = read_manifest(folder)
            return labelled_examples(folder, frame[frame["split"] == "val"], classes=classes, size=size)
        folder, rows = self.rows(Part(faces, count), repeat=repeat)
        read: Callable[..., Examples] = real_examples if faces == LABELLED else rectified_examples
        return read(folder, rows, classes=classes, size=size)

    def _read_block(self, drawn: str, number: int) -> Examples:
        folder, rows = self.pool.faces(drawn, number).stage("synthesis"), self.synthetic_rows(drawn, number)
        read: Callable[..., Examples] = rectified_examples if DRAWINGS[drawn].rectified else labelled_examples
        return read(folder, rows, classes=self.common.expressions, size=self.common.image_size)


def shows_what_was_asked(rows: pd.DataFrame) -> pd.Series:
    """Rows that rectification, where there was any, has neither given another label nor rejected."""
    if "label" not in rows.columns:
        return pd.Series(True, index=rows.index)
    return (rows["label"] == rows["expression"]) & (rows["action"] != "reject")
