"""The members of the annotation as one: FERAnno on the generator's backbone and the annotators give every face their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from components.device import torch_device
from components.executors.shards import Actors, Advance, Portable, run_shards
from components.feature_store import FeatureReader, feature_reader
from components.fer_models import class_probabilities
from components.feranno import PREDICTIONS
from components.image_stream import ImageShard, image_batches, image_shards
from synfer.annotation.au_consistency import au_vectors
from synfer.annotation.calibration import AnnotationError, as_scores
from synfer.annotation.feranno import Feranno, load_feranno
from synfer.annotation.rectifier import HeldOut
from synfer.classifiers.examples import class_indices
from synfer.classifiers.models import Classifier, load
from synfer.config import Common
from synfer.diffusion.backbone import load_backbone
from synfer.files import whole_file
from synfer.manifest import read_manifest, stack

HEAD = "FERAnno"
_SCORE = "score_"


@dataclass(frozen=True)
class AnnotationMembers:
    """FERAnno's head, the reader of its features, and the annotators by name; `image_size` is the side that the backbone reads."""

    head: Feranno
    read: FeatureReader
    annotators: Mapping[str, Classifier]
    common: Common
    image_size: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members: the annotators' folders and FERAnno."""
        return (*self.annotators, HEAD)

    def scores(self, pixels: np.ndarray, sample_ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Scores (N, K) of every member, over `common.expressions`, for faces uint8 (N, image_size, image_size, 3).

        FERAnno draws the noise of a face from its id, so a face has the same scores in any batch.
        """
        return self.look(pixels, sample_ids)[0]

    def of_annotators(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Scores (N, K) of the annotators alone."""
        return {name: as_scores(class_probabilities(model, pixels, self.common)) for name, model in self.annotators.items()}

    def look(self, pixels: np.ndarray, sample_ids: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The `scores` of faces, and the AU vectors (N, AU_COUNT) that FERAnno reads in them; NaN for units that it does not know."""
        found = self.of_annotators(pixels)
        with torch.inference_mode():
            logits, sides = (values.float().cpu().numpy() for values in self.head.read(*self.read(pixels, sample_ids)))
        return {**found, HEAD: logits}, au_vectors(sides, self.head.shape.aus)


def load_members(*, generator: Path, feranno: Path, fer_models: Path, common: Common) -> AnnotationMembers:
    """The members of a run, from the folders of its stages.

    Raises AnnotationError if FERAnno's head cannot be read or tells other classes than `common.expressions` in their order, or if there is
    no annotator; ClassifierError if one cannot be read.
    """
    device = torch_device(common.device)
    head, card = load_feranno(feranno, device=device)
    if head.shape.classes != tuple(common.expressions):
        found, wanted = ", ".join(head.shape.classes), ", ".join(common.expressions)
        raise AnnotationError(f"{feranno}: FERAnno tells {found}; the configuration wants {wanted}, in this order; train it anew")
    backbone = load_backbone(generator / "backbone", device=device)
    annotators = {folder.name: load(folder, device=device) for folder in sorted(fer_models.glob("annotator_*"))}
    if not annotators:
        raise AnnotationError(f"{fer_models} holds no annotator_*; the stage fer_models makes them")
    read = feature_reader(backbone, timestep=card["timestep"], seed=common.seed)
    return AnnotationMembers(head, read, annotators, common, backbone.image_size)


@dataclass(frozen=True)
class Onlooker(Portable):
    """Has the members look at any shard of images: the folders of a run's stages, faces a batch, device (in place of `common.device`).

    The members are loaded when they are first needed.
    """

    generator: Path
    feranno: Path
    fer_models: Path
    common: Common
    batch_size: int
    device: str

    @cached_property
    def members(self) -> AnnotationMembers:
        """The members; raises as `load_members` does."""
        common = self.common.model_copy(update={"device": self.device})
        return load_members(generator=self.generator, feranno=self.feranno, fer_models=self.fer_models, common=common)

    def __call__(self, shard: ImageShard, advance: Advance) -> None:
        """Write the scores of a shard's faces by member, and the AUs that FERAnno reads in them."""
        parts: list[pa.Table] = []
        for batch_ids, pixels in shard.batches(size=self.members.image_size, batch_size=self.batch_size):
            scores, aus = self.members.look(pixels, batch_ids)
            lists = {f"{_SCORE}{name}": pa.array(list(rows), pa.list_(pa.float64())) for name, rows in scores.items()}
            parts.append(pa.table({"sample_id": batch_ids, "aus": pa.array(list(aus), pa.list_(pa.float32())), **lists}))
            advance(len(batch_ids))
        with whole_file(shard.path) as temporary:
            pq.write_table(pa.concat_tables(parts), temporary)


def folder_scores(
    onlooker: Onlooker, folder: Path, sample_ids: Sequence[str], *, work: Path, actors: Actors | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores (N, K) of every member on the images of a dataset folder, and the AU vectors (N, AU_COUNT) seen.

    Rows follow `sample_ids`; AUs are NaN where FERAnno does not know them. `work` keeps a file a shard, so that a killed call goes on; the
    caller removes it.
    """
    shards = image_shards(folder, sample_ids, work)
    run_shards(onlooker, shards, actors, title="annotation")
    table = pa.concat_tables([pq.read_table(shard.path) for shard in shards]).to_pandas().set_index("sample_id").loc[list(sample_ids)]
    names = [name.removeprefix(_SCORE) for name in table.columns if name.startswith(_SCORE)]
    return {name: stack(table, f"{_SCORE}{name}") for name in names}, stack(table, "aus")


def held_out_scores(members: AnnotationMembers, *, development: Path, feranno: Path, batch_size: int = 128) -> HeldOut:
    """Scores of every member on the real val faces of a corpus, in one stream, and their labels; FERAnno's were left by its own stage.

    Rows follow the manifest. Raises AnnotationError naming a val face that FERAnno's stage did not see.
    """
    common = members.common
    frame = read_manifest(development)
    frame = frame[(frame["split"] == "val") & frame["expression"].isin(common.expressions)]
    left = pq.read_table(feranno / PREDICTIONS).to_pandas().set_index("sample_id")
    if missing := set(frame["sample_id"]) - set(left.index):
        raise AnnotationError(f"{feranno / PREDICTIONS} knows no val sample {min(missing)!r}; FERAnno was trained on another corpus")
    sample_ids = frame["sample_id"].tolist()
    position = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    scores = {name: np.empty((len(sample_ids), len(common.expressions))) for name in members.annotators}
    for batch_ids, pixels in image_batches(development, sample_ids, size=members.image_size, batch_size=batch_size, title="val"):
        rows = [position[sample_id] for sample_id in batch_ids]
        for name, found in members.of_annotators(pixels).items():
            scores[name][rows] = found
    scores[HEAD] = stack(left.loc[frame["sample_id"]], "logits")
    return HeldOut(scores, class_indices(frame["expression"].tolist(), common.expressions))
