"""The embedded corpus: balanced, split by identity, noisy labels beside the truth, the same on every call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.embedded_corpus import majority, write_corpus
from synfer.images import load_images
from synfer.manifest import read_manifest, stack
from synfer.vocabulary import ATTRIBUTES, DEFAULT_EXPRESSIONS, EXPRESSIONS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "faces"
    write_corpus(out, identities=40, images_per_identity=7, size=32)
    return out


def test_splits_share_no_person_and_are_balanced(folder: Path) -> None:
    frame = read_manifest(folder)
    assert frame.groupby("identity")["split"].nunique().max() == 1
    assert frame["split"].value_counts().to_dict() == {"train": 196, "val": 42, "test": 42}
    counts = frame.groupby(["split", "true_expression"]).size()
    assert (counts.groupby("split").max() == counts.groupby("split").min()).all()
    assert set(frame["true_expression"]) == set(DEFAULT_EXPRESSIONS)


def test_labels_are_what_most_annotators_say_and_sometimes_wrong(folder: Path) -> None:
    frame = read_manifest(folder)
    votes = stack(frame, "votes")
    assert (votes.sum(axis=1) == 10).all()
    of_label = [votes[row, EXPRESSIONS.index(label)] for row, label in enumerate(frame["expression"])]
    assert (np.array(of_label) == votes[:, : len(DEFAULT_EXPRESSIONS)].max(axis=1)).all()
    assert 0.75 < (frame["expression"] == frame["true_expression"]).mean() < 0.98


def test_rows_describe_their_images(folder: Path) -> None:
    frame = read_manifest(folder)
    assert {f"attr_{name}" for name in ATTRIBUTES} <= set(frame.columns)
    assert all(caption.startswith("a photo of ") for caption in frame["caption"])
    images = load_images(folder, frame["sample_id"].tolist()[:5], size=32)
    assert images.std(axis=(1, 2, 3)).min() > 10


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(folder: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "again", identities=40, images_per_identity=7, size=32)
    names = sorted(path.name for path in folder.iterdir())
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == names
    assert all((tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes() for name in names)
    other = write_corpus(tmp_path / "other", identities=7, images_per_identity=1, size=32, seed=1)
    assert set(other["sha256"]).isdisjoint(read_manifest(folder)["sha256"])


def test_the_corpus_of_the_repository_is_what_the_command_draws(root: Path, tmp_path: Path) -> None:
    """Pixels may differ by rounding between machines, not by a change of the renderer."""
    committed = read_manifest(root / "data" / "faces").head(14)
    drawn = write_corpus(tmp_path / "faces", identities=7, images_per_identity=10).head(14)
    same = ["sample_id", "identity", "expression", "true_expression", "caption", "seed"]
    assert drawn[same].equals(committed[same])
    ids = committed["sample_id"].tolist()
    before, now = (load_images(folder, ids, size=64).astype(float) for folder in (root / "data" / "faces", tmp_path / "faces"))
    assert np.abs(before - now).mean() < 1.0


def test_an_older_corpus_gives_way_whole(folder: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "faces", identities=14, images_per_identity=1, size=32)
    write_corpus(tmp_path / "faces", identities=7, images_per_identity=1, size=32)
    assert len(read_manifest(tmp_path / "faces")) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_a_tie_is_broken_at_random_and_contempt_is_no_label() -> None:
    votes = np.array([4, 0, 4, 0, 0, 0, 0, 2])
    labels = {majority(votes, np.random.default_rng(seed)) for seed in range(20)}
    assert labels == {"neutral", "sadness"}
    assert majority(np.array([0, 1, 0, 0, 0, 0, 0, 9]), np.random.default_rng(0)) == "happiness"
