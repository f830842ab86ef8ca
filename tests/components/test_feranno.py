from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from components import feranno
from components.au_check import au_reading
from components.executors.shards import Advance
from components.feature_store import store_features, write_features
from components.image_stream import ImageShard
from components.record import read_metrics
from components.workspace import Workspace
from synfer.annotation.feranno import load_feranno
from synfer.annotation.feranno_fit import FeatureSet
from synfer.annotation.pooling import fit_pool
from synfer.config import Config
from synfer.images import load_images
from synfer.manifest import read_manifest, stack
from synfer.vocabulary import AU_INDEX


def test_the_stage_leaves_a_head_its_calibration_and_the_val_logits(head: Path, world: Workspace, settings: Config) -> None:
    model, card = load_feranno(head)
    frame = read_manifest(world.stage("corpus") / "development")
    val = frame[frame["split"] == "val"]
    left = pd.read_parquet(head / feranno.PREDICTIONS)
    labels = np.array([settings.common.expressions.index(name) for name in val["expression"]])
    assert left["sample_id"].tolist() == val["sample_id"].tolist()
    assert card["temperature"] == pytest.approx(fit_pool({"head": np.stack(left["logits"])}, labels).temperatures["head"], rel=1e-3)
    assert model.shape.classes == settings.common.expressions
    assert card["trained_on"] == (frame["split"] == "train").sum() or card["trained_on"] == settings.feranno.train_images


def test_the_head_reads_the_aus_of_the_corpus_and_says_which_can_be_trusted(head: Path, world: Workspace) -> None:
    model, card = load_feranno(head)
    frame = read_manifest(world.stage("corpus") / "development").set_index("sample_id")
    left = pd.read_parquet(head / feranno.PREDICTIONS)
    known, seen = stack(frame.loc[left["sample_id"]], "aus"), np.stack(left["aus_seen"])
    assert {"26", "L12", "R12"} <= set(model.shape.aus)
    assert "43" not in model.shape.aus  # no face of the corpus closes its eyes
    assert np.isnan(seen[:, AU_INDEX["43"]]).all()
    assert seen[:, AU_INDEX["26"]].min() >= 0
    reading = au_reading(known, seen)
    assert card["readable_aus"] == reading.loc[reading["readable"], "AU"].tolist()
    assert read_metrics(head)["feranno/au_icc"].value == pytest.approx(reading["ICC"].mean())


def test_nothing_of_the_features_is_left_and_the_metrics_are_there(head: Path) -> None:
    assert {path.name for path in head.iterdir()} == {
        "model.safetensors", "card.json", feranno.PREDICTIONS, "metrics.json", "figures.json", "tables.json", "figures",
    }  # fmt: skip
    assert 0 <= read_metrics(head)["feranno/val_uar"].value <= 1


def read(pixels: np.ndarray, batch_ids: Sequence[str]) -> tuple[list[torch.Tensor], torch.Tensor]:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return [images[:, :2, ::8, ::8], images[:, :, ::16, ::16]], images[:, :1, ::8, ::8]


def test_stored_features_follow_the_samples_asked_whatever_the_batch(generated: Path, tmp_path: Path) -> None:
    sample_ids = ["syn-0050", "syn-0003", "syn-0041", "syn-0010"]  # over both shards, out of order

    def stored(batch_size: int) -> FeatureSet:
        work = partial(write_features, read, size=64, batch_size=batch_size)
        return store_features(work, generated, sample_ids, np.zeros(4, int), store=tmp_path / str(batch_size))

    pixels = load_images(generated, sample_ids, size=64)
    expected = (pixels.transpose(0, 3, 1, 2)[:, :2, ::8, ::8] / 255).astype(np.float16)
    one, three, every = stored(1), stored(3), np.arange(4)
    assert one.maps[0].shape == (4, 2, 8, 8)
    assert np.array_equal(one.maps[0][every], three.maps[0][every])
    assert np.abs(three.maps[0][every].astype(float) - expected).max() < 1e-3
    assert np.array_equal(three.maps[0][every[::-2]], three.maps[0][every][::-2])
    assert all(isinstance(part, np.memmap) for part in three.maps[0].parts)  # read where they lie
    assert np.array_equal(three.attention[every], one.maps[0][every][:, :1])


def test_features_that_are_there_are_not_made_again(generated: Path, tmp_path: Path) -> None:
    def once(shard: ImageShard, advance: Advance) -> None:
        assert not shard.path.exists()
        write_features(read, shard, advance, size=64, batch_size=8)

    sample_ids = ["syn-0050", "syn-0003"]
    first = store_features(once, generated, sample_ids, np.zeros(2, int), store=tmp_path)
    next(iter(tmp_path.iterdir())).unlink()  # as after a kill between two shards
    again = store_features(once, generated, sample_ids, np.zeros(2, int), store=tmp_path)
    assert np.array_equal(first.maps[0][np.arange(2)], again.maps[0][np.arange(2)])
