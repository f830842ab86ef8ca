"""Groups of look-alikes: a person whom nobody names stays in one split, and no group outgrows what the splits can bear."""

from __future__ import annotations

import synfer.torchvision_shim  # noqa: F401

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image

from components.imports.dataset import CARD, import_dataset
from components.imports.look_alikes import embed, look_alikes
from components.workspace import Workspace
from flows.cli import main
from synfer.classifiers.embedding import Embedding, open_embedding
from synfer.classifiers.models import ClassifierError, create, load, save
from synfer.classifiers.predict import features
from synfer.images import iter_images
from synfer.manifest import read_manifest
from synfer.vocabulary import DEFAULT_EXPRESSIONS

Write = Callable[..., Path]
PEOPLE, TAKES = 30, 6


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_comparing_every_pair(vectors: np.ndarray, near: np.ndarray, largest: int) -> np.ndarray:
    """The slow reference: all pairs, the nearest first, each group written out."""
    group = {row: frozenset(np.flatnonzero(near == cluster).tolist()) for row, cluster in enumerate(near)}
    pairs = [(float(((vectors[a] - vectors[b]) ** 2).sum()), a, b) for a in range(len(vectors)) for b in range(a)]
    for _, a, b in sorted(pairs):
        if len(group[a] | group[b]) <= largest:
            joined = group[a] | group[b]
            group |= dict.fromkeys(joined, joined)
    return np.array([min(group[row]) for row in range(len(vectors))])


def same_groups(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(((one[:, None] == one) == (other[:, None] == other)).all())


@pytest.mark.parametrize("largest", [1, 5, 12, 60])
def test_groups_are_those_of_comparing_every_pair(largest: int) -> None:
    rng = np.random.default_rng(0)
    vectors, near = unit(rng.normal(size=(60, 8))), np.arange(60)
    near[10:17] = 10  # near-duplicates stay together whatever their number
    found = look_alikes(vectors, near, largest=largest, neighbours=59)
    assert same_groups(found, by_comparing_every_pair(vectors, near, largest))
    assert np.unique(found, return_counts=True)[1].max() == max(largest, 7)


def test_people_whom_an_embedding_tells_apart_stay_whole() -> None:
    rng = np.random.default_rng(1)
    person = np.repeat(np.arange(PEOPLE), TAKES)
    vectors = unit(rng.normal(size=(PEOPLE, 32))[person] + 0.1 * rng.normal(size=(len(person), 32)))
    groups = look_alikes(vectors, np.arange(len(person)), largest=2 * TAKES)
    assert pd.Series(groups).groupby(person).nunique().max() == 1
    assert len(set(look_alikes(vectors[:1], np.arange(1), largest=5))) == 1


@pytest.fixture
def coloured(tmp_path: Path, write: Write) -> Path:
    """Faces of people who differ in their colour alone, and whose pictures are no near-duplicates."""
    rng = np.random.default_rng(2)
    for person, colour in enumerate(rng.integers(60, 196, (PEOPLE, 3))):
        for take in range(TAKES):
            texture = rng.integers(-50, 51, (8, 8, 1)).repeat(8, 0).repeat(8, 1)
            buffer = io.BytesIO()
            Image.fromarray((colour + texture - texture.mean().round()).clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
            write(tmp_path, f"faces/{DEFAULT_EXPRESSIONS[take]}/p{person:02d}_{take}.png", buffer.getvalue())
    return tmp_path / "faces"


def mean_colour() -> Embedding:
    return Embedding("mean colour", 16, lambda images: images.mean(dim=(2, 3)), torch.device("cpu"))


def split_people(folder: Path) -> int:
    """How many people lie in more than one split; their names are hidden from the import in the file names."""
    frame = read_manifest(folder)
    assert set(frame["identity"]) == {""}
    return int((frame.groupby(frame["sample_id"].str[:3])["split"].nunique() > 1).sum())


def test_an_import_with_an_embedding_keeps_people_of_unknown_name_together(coloured: Path, tmp_path: Path) -> None:
    told = import_dataset("folder", coloured, tmp_path / "alone").notes
    assert any(note.startswith("nobody says who is on the images: ") for note in told) and split_people(tmp_path / "alone") > PEOPLE // 2
    done = import_dataset("folder", coloured, tmp_path / "grouped", embedding=mean_colour())
    assert split_people(tmp_path / "grouped") <= PEOPLE // 10
    assert done.counts.sum().tolist() == pytest.approx([126, 27, 27], abs=9)
    found = json.loads((tmp_path / "grouped" / CARD).read_text())["look_alikes"]
    assert (found["embedding"], found["images"]) == ("mean colour", 180) and 9 <= found["groups"] <= PEOPLE and found["largest"] <= 20
    assert any("groups of look-alikes by mean colour" in note for note in done.notes)


def test_people_who_are_named_need_no_embedding(coloured: Path, tmp_path: Path) -> None:
    def look(images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("no face is looked at")

    embedding = Embedding("unused", 16, look, torch.device("cpu"))
    done = import_dataset("folder", coloured, tmp_path / "out", options={"identity": r"p\d\d"}, embedding=embedding)
    assert json.loads((tmp_path / "out" / CARD).read_text())["look_alikes"] is None
    assert not any("look-alikes" in note for note in done.notes)


def test_faces_of_the_sets_own_test_split_stay_where_they_are(coloured: Path, tmp_path: Path) -> None:
    for child in list(coloured.iterdir()):
        split = "test" if child.name == DEFAULT_EXPRESSIONS[0] else "train"
        (coloured / split).mkdir(exist_ok=True)
        child.rename(coloured / split / child.name)
    import_dataset("folder", coloured, tmp_path / "out", embedding=mean_colour())
    frame = read_manifest(tmp_path / "out")
    assert set(frame.loc[frame["split"] == "test", "expression"]) == {DEFAULT_EXPRESSIONS[0]}
    rest = frame[frame["split"] != "test"]
    assert (rest.groupby(rest["sample_id"].str[:3])["split"].nunique() > 1).sum() <= PEOPLE // 10


def test_vectors_come_in_the_order_asked_and_do_not_depend_on_the_batch(coloured: Path, tmp_path: Path) -> None:
    import_dataset("folder", coloured, tmp_path / "out", shard_images=50)
    names = read_manifest(tmp_path / "out")["sample_id"].tolist()[::-1]
    vectors = embed(tmp_path / "out", names, mean_colour())
    images = dict(iter_images(tmp_path / "out"))
    assert vectors.shape == (180, 3) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    expected = unit(np.stack([images[name].mean((0, 1)) / 127.5 - 1 for name in names]))
    assert (np.einsum("nd,nd->n", vectors, expected) > 0.98).all()  # images are resized before


# --- networks ---------------------------------------------------------------------------------------------------------------------


def test_a_classifier_of_this_project_is_an_embedding(tmp_path: Path) -> None:
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=32), tmp_path / "guide", {})
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    embedding = open_embedding(str(tmp_path / "guide"))
    assert embedding.size == 32
    np.testing.assert_allclose(embedding(images), unit(features(load(tmp_path / "guide"), images)), atol=1e-5)


def test_a_folder_of_timm_is_an_embedding_with_its_own_size_and_normalisation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=5).eval()
    timm.models.save_for_hf(model, tmp_path / "faces", safe_serialization=True)
    embedding = open_embedding(str(tmp_path / "faces"))
    images = np.random.default_rng(0).integers(0, 256, (2, embedding.size, embedding.size, 3), dtype=np.uint8)
    settings = timm.data.resolve_model_data_config(model)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - torch.tensor(settings["mean"])[:, None, None]) / torch.tensor(
        settings["std"]
    )[:, None, None]
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(pixels), pre_logits=True).numpy()
    np.testing.assert_allclose(embedding(images), unit(expected), atol=1e-4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nosuchnet", "'nosuchnet' is neither a folder nor a model of timm"),
        ("resnet10t.no_such", "the weights of resnet10t.no_such cannot be had (.*); give a local folder, or set HF_HUB_OFFLINE=0"),
        (".", r"\. holds neither card\.json, a classifier of this project, nor config\.json, a model of timm"),
    ],
)
def test_what_is_no_embedding_is_told_in_one_line(model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClassifierError, match=message.replace("(.*)", r"\(.*\)")) as raised:
        open_embedding(model)
    assert "\n" not in str(raised.value)


def test_the_command_takes_an_embedding(in_workspace: Workspace, coloured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(create("resnet10t", DEFAULT_EXPRESSIONS, image_size=32), in_workspace.root / "face-network", {})
    with pytest.raises(SystemExit) as ended:
        main(["import", "folder", str(coloured), "--name", "web", "--identities", "clusters", "--embedding", "face-network"])
    out = " ".join(capsys.readouterr().out.split())
    assert not ended.value.code and "groups of look-alikes by face-network, the largest of" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--identities", "cluster"], "unknown identities 'cluster' (did you mean 'clusters'?)"),
        (["--embedding", "x"], "--embedding says nothing without --identities clusters"),
        (["--identities", "clusters"], "assets/fer/annotator_1' is neither a folder nor a model of timm"),
        (["--probe", "nowhere"], "nowhere/card.json does not exist"),
    ],
)
def test_the_command_refuses_before_any_work(
    in_workspace: Workspace, coloured: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["import", "folder", str(coloured), *arguments])
    told = capsys.readouterr().err
    assert ended.value.code == 1 and message in told and told.count("\n") == 1
    assert not (in_workspace.data / "folder").exists()
