"""The corpus stage: two folders that share nobody, every image checked, balanced subsets, captions filled."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.corpus import CorpusError, check_identities, run, take_balanced, with_captions
from components.embedded_corpus import write_corpus
from components.record import read_metrics, read_pictures, read_tables
from synfer.config import Common, Corpus
from synfer.images import ImageError, iter_encoded, iter_images, shard_paths, write_shard
from synfer.manifest import read_manifest, write_manifest

COMMON = Common(image_size=32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small rendered corpus: 20 people, 140 faces."""
    folder = tmp_path_factory.mktemp("faces") / "faces"
    write_corpus(folder, identities=20, images_per_identity=7, size=32)
    return folder


def altered(source: Path, folder: Path, frame: pd.DataFrame, images: dict[str, bytes]) -> Path:
    """A copy of a dataset folder with another manifest or other images."""
    encoded = dict(iter_encoded(source)) | images
    write_manifest(frame, folder)
    write_shard(folder, 0, list(encoded), list(encoded.values()))
    return folder


def test_test_faces_are_apart_and_nothing_is_lost(source: Path, tmp_path: Path) -> None:
    run(Corpus(source=str(source)), COMMON, out=tmp_path)
    development, test, whole = (read_manifest(folder) for folder in (tmp_path / "development", tmp_path / "test", source))
    assert set(development["split"]) == {"train", "val"}
    assert set(test["split"]) == {"test"}
    assert not set(development["identity"]) & set(test["identity"])
    assert sorted([*development["sample_id"], *test["sample_id"]]) == sorted(whole["sample_id"])
    assert set(whole.columns) == set(test.columns)
    assert {name for name, _ in iter_images(tmp_path / "test")} == set(test["sample_id"])
    assert dict(iter_encoded(tmp_path / "test")).items() <= dict(iter_encoded(source)).items()


def test_it_leaves_what_people_see(source: Path, tmp_path: Path) -> None:
    run(Corpus(source=str(source)), COMMON, out=tmp_path)
    metrics, frame = read_metrics(tmp_path), read_manifest(source)
    assert metrics["corpus/images"].value == 140
    assert metrics["corpus/label_accuracy"].value == pytest.approx((frame["expression"] == frame["true_expression"]).mean())
    assert [picture.file for picture in read_pictures(tmp_path)] == [
        "faces.png",
        "class_balance.png",
        "annotator_noise.png",
        "au_frequency.png",
    ]
    assert read_tables(tmp_path)[0].columns[-2:] == ("images", "identities")


def test_the_same_call_leaves_the_same_manifests(source: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        run(Corpus(source=str(source), train=20, val=14, test=14), COMMON, out=tmp_path / name)
    first, second = ((tmp_path / name / "development" / "manifest.parquet").read_bytes() for name in ("first", "second"))
    assert first == second
    assert read_metrics(tmp_path / "first")["corpus/train_images"].value == 20


def test_a_subset_is_balanced_and_in_order(source: Path) -> None:
    rows = read_manifest(source)
    chosen = take_balanced(rows, 35)
    assert chosen["expression"].value_counts().tolist() == [5] * 7
    assert chosen.index.is_monotonic_increasing
    assert len(take_balanced(rows, 0)) == len(take_balanced(rows, 10**6)) == len(rows)


def test_missing_captions_are_filled_sample_by_sample(source: Path) -> None:
    frame = read_manifest(source).head(20).assign(caption=["written by hand", *[""] * 19])
    filled = with_captions(frame, seed=0)
    assert filled["caption"].iloc[0] == "written by hand"
    assert filled["caption"].str.contains("expression").iloc[1:].all()
    shuffled = with_captions(frame.iloc[::-1], seed=0)
    assert shuffled.sort_index()["caption"].tolist() == filled["caption"].tolist()


def test_unknown_attributes_and_action_units_still_get_a_caption(source: Path) -> None:
    frame = read_manifest(source).head(3)
    bare = frame.drop(columns=[name for name in frame if name.startswith("attr_")]).assign(caption="", aus=[np.full(42, np.nan)] * 3)
    assert with_captions(bare, seed=0)["caption"].str.startswith("a photo of a person").all()


def test_a_missing_corpus_says_what_brings_it(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"data/faces holds no manifest\.parquet; .*dvc pull data\.dvc"):
        run(Corpus(source=str(tmp_path / "data/faces")), COMMON, out=tmp_path)


def test_one_person_in_two_splits_is_named(source: Path) -> None:
    frame = read_manifest(source)
    mixed = frame.assign(split=["test", *frame["split"].iloc[1:]])
    with pytest.raises(CorpusError, match="person-00000 is in test and train"):
        check_identities(mixed, where="here")
    check_identities(mixed.assign(identity=""), where="here")  # unknown people cannot be checked


def test_an_empty_split_is_named(source: Path, tmp_path: Path) -> None:
    frame = read_manifest(source)
    folder = altered(source, tmp_path / "faces", frame[frame["split"] != "val"], {})
    with pytest.raises(CorpusError, match="has no val image"):
        run(Corpus(source=str(folder)), COMMON, out=tmp_path)


def test_a_damaged_image_is_named_and_the_manifest_is_not_written(source: Path, tmp_path: Path) -> None:
    frame = read_manifest(source)
    sample = frame["sample_id"].iloc[3]
    damaged = dict(iter_encoded(source))[sample][:100]
    folder = altered(source, tmp_path / "faces", frame, {sample: damaged})
    with pytest.raises(ImageError, match=f"sample {sample}: not a readable image"):
        run(Corpus(source=str(folder)), COMMON, out=tmp_path)
    assert not (tmp_path / "development" / "manifest.parquet").exists()


def test_another_image_under_the_same_name_is_noticed(source: Path, tmp_path: Path) -> None:
    frame = read_manifest(source)
    images = dict(iter_encoded(source))
    first, second = frame["sample_id"].iloc[:2]
    folder = altered(source, tmp_path / "faces", frame, {first: images[second]})
    with pytest.raises(ImageError, match=f"sample {first}: .*the image was altered"):
        run(Corpus(source=str(folder)), COMMON, out=tmp_path)


def test_a_missing_image_is_named(source: Path, tmp_path: Path) -> None:
    frame = read_manifest(source)
    folder = altered(source, tmp_path / "faces", frame, {})
    images = list(iter_encoded(folder))[1:]
    write_shard(folder, 0, [name for name, _ in images], [data for _, data in images])
    assert len(shard_paths(folder)) == 1
    with pytest.raises(ImageError, match=f"no image for sample {frame['sample_id'].iloc[0]}"):
        run(Corpus(source=str(folder)), COMMON, out=tmp_path)
