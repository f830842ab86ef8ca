from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from components import feranno
from components.au_check import au_reading
from components.feature_store import store_features
from components.record import read_metrics
from components.workspace import Workspace
from synfer.annotation.feranno import load_feranno
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


def test_stored_features_follow_the_samples_asked_whatever_the_batch(generated: Path, tmp_path: Path) -> None:
    sample_ids = ["syn-0050", "syn-0003", "syn-0041", "syn-0010"]  # over both shards, out of order

    def read(pixels: np.ndarray, batch_ids: list[str]) -> tuple[list[torch.Tensor], torch.Tensor]:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return [images[:, :2, ::8, ::8], images[:, :, ::16, ::16]], images[:, :1, ::8, ::8]

    stored = {
        size: store_features(
            read, generated, sample_ids, np.zeros(4, int), size=64, batch_size=size, store=tmp_path / str(size)
        )
        for size in (1, 3)
    }
    pixels = load_images(generated, sample_ids, size=64)
    expected = (pixels.transpose(0, 3, 1, 2)[:, :2, ::8, ::8] / 255).astype(np.float16)
    assert np.array_equal(stored[1].maps[0], stored[3].maps[0])
    assert np.abs(stored[3].maps[0].astype(float) - expected).max() < 1e-3
    assert isinstance(stored[3].maps[0], np.memmap)
