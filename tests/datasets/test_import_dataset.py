"""`synfer import`: whatever the layout, a checked dataset folder comes of it, whole or not at all, and nobody lies in two of its splits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from components.corpus import read_corpus
from components.imports.account import COPIES, SKIPPED
from components.imports.dataset import CARD, import_dataset
from components.imports.splits import part
from components.imports.survey import short_names
from components.near_duplicates import near_duplicate_clusters
from components.workspace import Workspace
from flows.cli import main
from flows.commands.import_dataset import _training
from synfer.config import load_config
from synfer.datasets.entries import DatasetError
from synfer.images import iter_encoded, iter_images
from synfer.manifest import read_manifest
from synfer.vocabulary import AU_INDEX, EXPRESSIONS

Tree = Callable[[str, str], Path]
Write = Callable[..., Path]
Draw = Callable[..., bytes]


def hidden(folder: Path) -> list[str]:
    """What a half import would have left."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_every_layout_becomes_a_dataset_folder(tree: Tree, makers: dict[tuple[str, str], Any], tmp_path: Path) -> None:
    for name, layout in makers:
        out = tmp_path / "data" / f"{name}-{layout}"
        done = import_dataset(name, tree(name, layout), out)
        frame = read_manifest(out)
        assert sorted(sample_id for sample_id, _ in iter_images(out)) == sorted(frame["sample_id"])
        assert int(done.counts.to_numpy().sum()) == len(frame) > 0
        card = json.loads((out / CARD).read_text())
        assert (card["format"], card["layout"], sum(card["images"].values())) == (name, layout, len(frame))
        assert set(frame["seed"]) == {-1} and set(frame["caption"]) == {""}
    assert hidden(tmp_path / "data") == []


def test_bytes_are_kept_and_formats_that_browsers_do_not_show_become_png(tree: Tree, tmp_path: Path) -> None:
    root = tree("folder", "class folders")
    import_dataset("folder", root, tmp_path / "kept")
    assert dict(iter_encoded(tmp_path / "kept"))["b"] == (root / "train/happy/b.jpg").read_bytes()
    root = tree("jaffe", "files")
    import_dataset("jaffe", root, tmp_path / "jaffe")
    for sample_id, data in iter_encoded(tmp_path / "jaffe"):
        with Image.open(io.BytesIO(data)) as stored, Image.open(root / f"jaffe/{sample_id}.tiff") as original:
            assert stored.format == "PNG" and np.array_equal(np.asarray(stored), np.asarray(original.convert("RGB")))


def test_what_a_set_holds_beside_labels_comes_into_the_manifest(tree: Tree, tmp_path: Path) -> None:
    import_dataset("affectnet", tree("affectnet", "A"), tmp_path / "affectnet", carve=())
    frame = read_manifest(tmp_path / "affectnet").set_index("sample_id")
    assert frame.loc["a", ["valence", "arousal", "split"]].tolist() == [0.5, -0.25, "train"]
    assert {pixels.shape for _, pixels in iter_images(tmp_path / "affectnet")} == {(16, 16, 3)}  # the face's box
    import_dataset("ferplus", tree("ferplus", "csv"), tmp_path / "ferplus")
    votes = read_manifest(tmp_path / "ferplus").set_index("sample_id").loc["fer0000000", "votes"]
    assert dict(zip(EXPRESSIONS, votes, strict=True))["anger"] == 8
    import_dataset("kdef", tree("kdef", "files"), tmp_path / "kdef")
    assert dict(read_manifest(tmp_path / "kdef")[["sample_id", "attr_sex"]].to_numpy()) == {
        "AF01ANS": "woman", "BF01HAHL": "woman", "AM07AFFR": "man", "AM07NES": "man",
    }  # fmt: skip


def test_coded_aus_are_known_and_all_others_are_not(tree: Tree, tmp_path: Path) -> None:
    import_dataset("disfa", tree("disfa", "frames"), tmp_path / "disfa")
    frame = read_manifest(tmp_path / "disfa").set_index("sample_id")
    aus = frame.loc["Images-SN001-00002", "aus"]
    assert (aus[AU_INDEX["12"]], aus[AU_INDEX["5"]]) == (2.0, 5.0)
    assert int(np.isnan(aus).sum()) == len(aus) - 12
    assert set(frame["expression"]) == {""}


def test_a_size_stores_the_square_in_the_middle(tmp_path: Path, write: Write) -> None:
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 16:48] = np.random.default_rng(0).integers(100, 256, (32, 32, 3))
    write(tmp_path, "faces/happy/a.png", encoded(wide))
    import_dataset("folder", tmp_path / "faces", tmp_path / "out", size=32)
    ((_, pixels),) = iter_images(tmp_path / "out")
    assert np.array_equal(pixels, wide[:, 16:48])


def test_sample_ids_are_stems_where_these_are_unique() -> None:
    assert short_names(["train/happy/a.png", "train/sad/b.JPG"]) == {"train/happy/a.png": "a", "train/sad/b.JPG": "b"}
    assert short_names(["x/a.png", "y/a.png"]) == {"x/a.png": "x-a", "y/a.png": "y-a"}
    assert short_names(["x/a.png", "x/a.jpg"]) == {"x/a.png": "x-a.png", "x/a.jpg": "x-a.jpg"}
    assert short_names(["data/train-0.parquet:7", "a/x.y"]) == {"data/train-0.parquet:7": "train-0-7", "a/x.y": "x.y"}
    assert short_names(["KA.AN1.39.tiff"]) == {"KA.AN1.39.tiff": "KA.AN1.39"}


# --- splits -----------------------------------------------------------------------------------------------------------------------


def people(root: Path, write: Write, draw: Draw, *, count: int = 20) -> Path:
    """Faces of so many people, three each."""
    for person in range(count):
        for take, name in enumerate(("happy", "sad", "fear")):
            write(root, f"{name}/p{person:02d}_{take}.png", draw(100 + person * 3 + take, size=(64, 64)))
    return root


def test_nobody_lies_in_two_splits(tmp_path: Path, write: Write, draw: Draw) -> None:
    root = people(tmp_path / "faces", write, draw)
    done = import_dataset("folder", root, tmp_path / "out", options={"identity": r"p\d\d"})
    frame = read_manifest(tmp_path / "out")
    assert frame["identity"].nunique() == 20
    assert (frame.groupby("identity")["split"].nunique() == 1).all()
    assert done.counts.to_numpy().tolist() == [[14, 3, 3]] * 3


def test_near_copies_of_unknown_people_lie_in_one_split(tmp_path: Path, write: Write, draw: Draw) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = np.asarray(Image.open(io.BytesIO(draw(number, size=(64, 64)))))
        for copy in range(3):
            noisy = np.clip(pixels + rng.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)
            write(tmp_path, f"faces/happy/{number:02d}_{copy}.png", encoded(noisy))
    import_dataset("folder", tmp_path / "faces", tmp_path / "out")
    frame = read_manifest(tmp_path / "out")
    assert (frame.groupby(frame["sample_id"].str[:2])["split"].nunique() == 1).all()
    assert frame["split"].value_counts().to_dict() == {"train": 42, "val": 9, "test": 9}
    assert not (tmp_path / "out" / COPIES).exists()


def test_near_copies_across_a_sets_own_splits_are_listed(tmp_path: Path, write: Write, draw: Draw) -> None:
    for name in ("train/happy/a.png", "test/happy/b.png", "val/sad/c.png"):
        write(tmp_path, f"faces/{name}", draw(7 if name[0] in "t" else 8, size=(64, 64)))
    done = import_dataset("folder", tmp_path / "faces", tmp_path / "out")
    assert pd.read_csv(tmp_path / "out" / COPIES)["source_name"].tolist() == ["test/happy/b.png", "train/happy/a.png"]
    assert any(note.startswith("2 near-duplicates lie in more than one split") for note in done.notes)


def test_val_is_taken_from_train_where_a_set_has_none(tmp_path: Path, write: Write, draw: Draw) -> None:
    for number in range(40):
        write(tmp_path, f"faces/{'train' if number < 34 else 'test'}/happy/{number}.png", draw(number, size=(64, 64)))
    done = import_dataset("folder", tmp_path / "faces", tmp_path / "out")
    assert done.counts.to_numpy().tolist() == [[28, 6, 6]]
    done = import_dataset("folder", tmp_path / "faces", tmp_path / "kept", carve=())
    assert done.counts.to_numpy().tolist() == [[34, 0, 6]]
    assert "no val split: the pipeline needs one; take it from train with --carve val" in done.notes


def test_val_and_test_are_taken_from_train_at_once(tmp_path: Path, write: Write, draw: Draw) -> None:
    for number in range(40):
        write(tmp_path, f"faces/train/{'happy' if number % 2 else 'sad'}/{number}.png", draw(number, size=(64, 64)))
    done = import_dataset("folder", tmp_path / "faces", tmp_path / "out", carve=("val", "test"))
    assert done.counts.to_numpy().tolist() == [[14, 3, 3]] * 2
    assert len(read_corpus(tmp_path / "out", classes=("happiness", "sadness"))) == 40  # the first stage of the pipeline takes it


def test_people_in_two_of_a_sets_own_splits_are_told_and_can_be_parted_anew(tmp_path: Path, write: Write, draw: Draw) -> None:
    for number in range(12):
        write(tmp_path, f"faces/{'train' if number % 2 else 'val'}/happy/p{number // 4}_{number}.png", draw(number, size=(64, 64)))
    options = {"identity": r"p\d"}
    with pytest.raises(DatasetError, match=r"p0 is in two of the set's own splits \(and 2 more people\); part it anew with --resplit"):
        import_dataset("folder", tmp_path / "faces", tmp_path / "out", options=options)
    assert hidden(tmp_path) == [] and not (tmp_path / "out").exists()
    import_dataset("folder", tmp_path / "faces", tmp_path / "out", options=options, resplit=True)
    assert (read_manifest(tmp_path / "out").groupby("identity")["split"].nunique() == 1).all()


def test_parts_keep_groups_whole_and_classes_in_proportion() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.choice(["a", "b", "c"], 3000, p=[0.6, 0.3, 0.1]), rng.integers(0, 400, 3000).astype(str)
    splits = part(labels, groups, {"train": 0.7, "val": 0.15, "test": 0.15}, seed=1)
    assert pd.Series(splits).groupby(groups).nunique().max() == 1
    shares = pd.crosstab(labels, splits, normalize="index")
    assert np.allclose(shares[["test", "train", "val"]], [0.15, 0.7, 0.15], atol=0.03)
    assert (splits == part(labels, groups, {"train": 0.7, "val": 0.15, "test": 0.15}, seed=1)).all()
    assert (splits != part(labels, groups, {"train": 0.7, "val": 0.15, "test": 0.15}, seed=2)).any()


def test_clusters_are_those_of_comparing_every_pair() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2**63, (30, 4), dtype=np.uint64)
    words = np.concatenate([first, first[:10]])
    for row in range(30, 40):  # a chain of two steps of 16 bits from each of the first ten
        words[row, 0] ^= np.uint64(0xFFFF)
    words = np.concatenate([words, words[30:40]])
    words[40:, 1] ^= np.uint64(0xFFFF)
    found = near_duplicate_clusters([tuple(map(int, row)) for row in words], radius=20)
    assert len(set(found)) == 30
    assert (found[:10] == found[30:40]).all() and (found[:10] == found[40:]).all()
    assert len(set(near_duplicate_clusters([tuple(map(int, row)) for row in words], radius=15))) == 50


# --- bad data ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tree: Tree) -> Path:
    """RAF-DB with a truncated JPEG, a missing one, and a label that nobody knows."""
    root = tree("rafdb", "list")
    names = [f"train_{number:05d}.jpg" for number in range(3, 7)]
    listed = root / "EmoLabel/list_patition_label.txt"
    listed.write_text(listed.read_text() + "".join(f"{name} 4\n" for name in names) + "train_00009.jpg 12\n")
    good = (root / "Image/aligned/train_00001_aligned.jpg").read_bytes()
    for name in names[1:]:
        (root / f"Image/aligned/{name[:-4]}_aligned.jpg").write_bytes(good[: len(good) // 2] if name == names[1] else good)
    return root


def test_bad_images_are_listed_with_their_paths_and_nothing_is_left(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DatasetError, match=r"1 images cannot be taken: .*list_patition_label\.txt, line 8: unknown label '12'"):
        import_dataset("rafdb", damaged, tmp_path / "data/rafdb")
    with pytest.raises(DatasetError, match=r"3 images cannot be taken: .*; --skip-bad 2 allows fewer"):
        import_dataset("rafdb", damaged, tmp_path / "data/rafdb", skip_bad=2)
    told = capsys.readouterr().err
    assert f"cannot be taken: {damaged}/Image/aligned/train_00003_aligned.jpg: the image does not exist" in told
    assert f"cannot be taken: {damaged}/Image/aligned/train_00004_aligned.jpg: not a readable image" in told
    assert list((tmp_path / "data").iterdir()) == []


def test_so_many_bad_images_as_allowed_are_passed_over_and_recorded(damaged: Path, tmp_path: Path) -> None:
    done = import_dataset("rafdb", damaged, tmp_path / "rafdb", skip_bad=3)
    skipped = pd.read_csv(tmp_path / "rafdb" / SKIPPED)
    assert [Path(where).name for where in skipped["where"]] == [
        "list_patition_label.txt, line 8", "train_00003_aligned.jpg", "train_00004_aligned.jpg",
    ]  # fmt: skip
    assert len(read_manifest(tmp_path / "rafdb")) == 5 and json.loads((tmp_path / "rafdb" / CARD).read_text())["skipped"] == 3
    assert "3 could not be taken, see skipped.csv" in done.notes and "7 of the 15339 published images are here" in done.notes


def test_far_too_many_bad_images_end_the_import_early(tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(150):
        write(tmp_path, f"faces/happy/{number}.png", b"no image")
    with pytest.raises(DatasetError, match="100 images cannot be taken so far: "):
        import_dataset("folder", tmp_path / "faces", tmp_path / "out")
    assert capsys.readouterr().err.count("cannot be taken: ") == 100


def test_blank_images_are_left_out(tmp_path: Path, write: Write, draw: Draw) -> None:
    write(tmp_path, "faces/happy/a.png", draw(1))
    blank = write(tmp_path, "faces/happy/b.png", encoded(np.zeros((24, 24, 3), np.uint8)))
    done = import_dataset("folder", tmp_path / "faces", tmp_path / "out")
    assert read_manifest(tmp_path / "out")["sample_id"].tolist() == ["a"]
    assert f"1 left out: blank, such as {blank}" in done.notes


def test_a_face_outside_its_image_is_told(tree: Tree, tmp_path: Path) -> None:
    root = tree("affectnet", "A")
    text = (root / "training.csv").read_text()
    (root / "training.csv").write_text(text.replace("1/a.jpg,4,8", "1/a.jpg,400,8"))
    with pytest.raises(DatasetError, match=r"1/a\.jpg: the face's box \(400, 8, 16, 16\) lies outside the image of 24 x 24 pixels"):
        import_dataset("affectnet", root, tmp_path / "out")


def test_what_cannot_be_is_refused_before_any_work(tree: Tree, tmp_path: Path, write: Write) -> None:
    root = tree("jaffe", "files")
    with pytest.raises(DatasetError, match=r"--every says nothing to jaffe \(files\), which takes no option"):
        import_dataset("jaffe", root, tmp_path / "out", options={"every": 2})
    with pytest.raises(DatasetError, match=r"--every says nothing to parquet .*takes --map, --image-column, --label-column"):
        import_dataset("parquet", write(tmp_path, "x.parquet", b""), tmp_path / "out", options={"every": 2})
    (tmp_path / "there").mkdir()
    with pytest.raises(DatasetError, match="there exists already; choose another name, or remove it first"):
        import_dataset("jaffe", root, tmp_path / "there")
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        import_dataset("jaffe", tmp_path / "nowhere", tmp_path / "there")
    assert not (tmp_path / "out").exists() and hidden(tmp_path) == []


def test_a_set_of_shifted_labels_is_told(tree: Tree, tmp_path: Path, draw: Draw, write: Write) -> None:
    """RAF-DB's counts, with every number one too high."""
    root = tree("rafdb", "list")
    counts = {"2": 26, "3": 6, "4": 14, "5": 96, "6": 40, "7": 14, "1": 52}
    labels = [label for label, count in counts.items() for _ in range(count)]
    lines = [f"train_{number:05d}.jpg {label}" for number, label in enumerate(labels)]
    write(root, "EmoLabel/list_patition_label.txt", "\n".join(lines))
    for number in range(len(labels)):
        write(root, f"Image/aligned/train_{number:05d}_aligned.jpg", draw(number, kind="JPEG"))
    (warning,) = [note for note in import_dataset("rafdb", root, tmp_path / "out").notes if note.startswith("labels: ")]
    assert "happiness has 6% of the images, 39% in the published set; are the labels in another order?" in warning


# --- the command ------------------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_of_counts_and_tracks(in_workspace: Workspace, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    (in_workspace.root / "data.dvc").write_text("outs: []\n")
    with pytest.raises(SystemExit) as ended:
        main(["import", "fer2013", str(tree("fer2013", "csv")), "--name", "fer", "--track"])
    out = capsys.readouterr().out
    assert not ended.value.code
    assert "expression" in out and "happiness" in out and "note: 4 of the 35887 published images are here" in out
    assert "synfer flow pipeline --config fer2013 --set corpus.source=data/fer\n" in out
    assert [entry["path"] for entry in yaml.safe_load((in_workspace.root / "data.dvc").read_text())["outs"]] == ["data/fer"]


def test_the_call_that_trains_on_photographs_fine_tunes_the_generator_on_them(root: Path) -> None:
    sources = []
    for format_, place in (("rafdb", "data/rafdb"), ("fer2013", "data/fer2013"), ("affectnet", "data/an")):
        call = _training(format_, place).split()
        given = {flag: [value for name, value in pairwise(call) if name == flag] for flag in ("--config", "--set")}
        found = load_config(root / "params.yaml", overlays=given["--config"], overrides=given["--set"])
        assert found.fer_models.source == "train"
        assert found.generator.adapt != "none" and found.generator.guide_steps
        sources.append(found.corpus.source)
    assert sources == ["data/rafdb", "data/fer2013", "data/an"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "rafbd", "."], "unknown format 'rafbd' (did you mean 'rafdb'?)"),
        (["import", "folder", "nowhere"], "nowhere does not exist"),
        (["import", "folder", ".", "--shares", "0.5,0.1"], "cannot read '0.5,0.1' as the shares of train, val and test"),
        (["import", "folder", ".", "--carve", "tset"], "unknown split to take from train 'tset' (did you mean 'test'?)"),
        (["import", "folder", ".", "--out", "/elsewhere", "--track"], "--track needs a folder below data/, not /elsewhere"),
        (["import", "folder", ".", "--map", "1=joyy"], "unknown expression 'joyy'"),
    ],
)
def test_the_command_tells_errors_in_one_line(
    in_workspace: Workspace, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (1, 2)
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
