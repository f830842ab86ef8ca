"""Captions and AUs for a dataset folder: what lacks is filled, an interrupted call goes on, the manifest changes whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components import describe as module
from components.corpus import run as run_corpus
from components.describe import DescribeError, describe
from components.embedded_corpus import write_corpus
from synfer.config import Common, Corpus
from synfer.descriptions.action_units import ActionUnitError
from synfer.images import ImageError, iter_encoded
from synfer.manifest import read_manifest, stack, write_manifest
from synfer.vocabulary import AU_COUNT, AU_INDEX

UNKNOWN = np.full(AU_COUNT, np.nan, dtype=np.float32)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus as people have it: images, labels and splits, but neither captions, attributes nor AUs."""
    folder = tmp_path_factory.mktemp("photographs") / "photographs"
    frame = write_corpus(folder, identities=20, images_per_identity=7, size=32)
    bare = frame.drop(columns=[name for name in frame if name.startswith("attr_") or name in ("votes", "true_expression")])
    write_manifest(bare.assign(caption="", aus=[UNKNOWN] * len(bare), seed=-1), folder)
    return folder


@pytest.fixture
def dataset(photographs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photographs, tmp_path / "photographs"))


@pytest.fixture
def table(dataset: Path) -> Path:
    """AU 12 and AU 4 of all samples but the last ten."""
    ids = read_manifest(dataset)["sample_id"][:-10]
    frame = pd.DataFrame({"file": [f"images/{name}.jpg" for name in ids], "AU12": np.linspace(0, 5, len(ids)), "AU04": 0.0, "AU28": 1.0})
    frame.to_csv(dataset.parent / "aus.csv", index=False)
    return dataset.parent / "aus.csv"


class Brightness:
    """A captioner that says how bright an image is, and may be interrupted."""

    needs_images = True

    def __init__(self, *, fails_at: int = -1, name: str = "") -> None:
        self.seen, self.fails_at, self.name = 0, fails_at, name

    def __call__(self, images: Sequence[np.ndarray], rows: pd.DataFrame) -> list[str]:
        if 0 <= self.fails_at <= self.seen:
            raise KeyboardInterrupt
        self.seen += len(images)
        return [f"a face of brightness {image.mean():.2f}" for image in images]


class Redness:
    """An AU source that looks: AU 6 by the redness of an image, unknown in every third."""

    needs_images = True

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, images: Sequence[np.ndarray], rows: pd.DataFrame) -> np.ndarray:
        self.seen += rows["sample_id"].tolist()
        found = np.tile(UNKNOWN, (len(images), 1))
        found[:, AU_INDEX["6"]] = [np.nan if name[-1] in "147" else image[..., 0].mean() / 51 for name, image in zip(rows.index, images)]
        return found


def test_a_table_and_the_grammar_fill_what_lacks(dataset: Path, table: Path) -> None:
    before = read_manifest(dataset)
    done = describe(dataset, captions="grammar", aus=str(table))
    after = read_manifest(dataset)
    assert (done.rows, done.captions, done.with_aus, done.ignored) == (140, 140, 130, ("AU28",))
    aus = stack(after, "aus")
    assert np.allclose(aus[:130, AU_INDEX["12"]], np.linspace(0, 5, 130))
    assert np.isnan(aus[130:]).all() and np.isnan(aus).sum() == 130 * (AU_COUNT - 2) + 10 * AU_COUNT
    assert after["caption"].str.contains("pulled up lip corners").any(), "the grammar sees the new AUs"
    unchanged = ["sample_id", "split", "identity", "expression", "seed", "sha256"]
    assert after[unchanged].equals(before[unchanged])
    assert sorted(path.name for path in dataset.parent.iterdir()) == ["aus.csv", "photographs"], "nothing temporary stays"


def test_the_corpus_stage_takes_partly_known_aus(dataset: Path, table: Path, tmp_path: Path) -> None:
    describe(dataset, aus=str(table))
    out = tmp_path / "corpus"
    out.mkdir()
    run_corpus(Corpus(source=str(dataset)), Common(image_size=32), out=out)
    assert (out / "figures" / "au_frequency.png").is_file()
    assert read_manifest(out / "development")["caption"].str.contains("pulled up lip corners").any()


def test_an_interrupted_call_goes_on_and_leaves_what_a_whole_one_does(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PART", 40)
    before = (dataset / "manifest.parquet").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        describe(dataset, captions=Brightness(fails_at=100))
    assert (dataset / "manifest.parquet").read_bytes() == before
    describe(dataset, captions=(resumed := Brightness()), out=None)
    assert resumed.seen == 140 - 80, "two parts of forty were finished, by a captioner of this class"
    again = tmp_path / "again"
    shutil.copytree(dataset, again)
    describe(again, captions=(whole := Brightness()), overwrite=True)
    assert whole.seen == 140
    assert (again / "manifest.parquet").read_bytes() == (dataset / "manifest.parquet").read_bytes()


def test_parts_of_a_captioner_with_another_name_are_not_taken(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART", 40)
    with pytest.raises(KeyboardInterrupt):
        describe(dataset, captions=Brightness(fails_at=100, name="by day"))
    describe(dataset, captions=(other := Brightness(name="by night")))
    assert other.seen == 140


def test_a_kill_while_a_copy_is_made_costs_no_caption(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*arguments: object) -> None:
        raise KeyboardInterrupt

    for step in ("_link_or_copy", "write_manifest", "replace_folder"):
        with monkeypatch.context() as killed:
            killed.setattr(module, step, kill)
            with pytest.raises(KeyboardInterrupt):
                describe(dataset, captions=Brightness(), out=tmp_path / "described")
        assert not (tmp_path / "described").exists()
    describe(dataset, captions=(resumed := Brightness()), out=tmp_path / "described")
    assert resumed.seen == 0
    assert read_manifest(tmp_path / "described")["caption"].str.startswith("a face of brightness").all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["described", "photographs"]


def test_each_gets_only_what_lacks_its_own(dataset: Path, table: Path) -> None:
    frame = read_manifest(dataset)
    write_manifest(frame.assign(caption=["by hand"] * 100 + [""] * 40), dataset)
    describe(dataset, captions=(captioner := Brightness()), aus=(source := Redness()))
    assert captioner.seen == 40
    assert sorted(source.seen) == sorted(frame["sample_id"])
    describe(dataset, captions=(captioner := Brightness()), aus=str(table))
    assert captioner.seen == 0


def test_an_image_is_shown_to_an_au_source_once_whatever_it_found(dataset: Path) -> None:
    describe(dataset, aus=Redness())
    frame = read_manifest(dataset)
    known = ~np.isnan(stack(frame, "aus")[:, AU_INDEX["6"]])
    assert 0 < known.sum() < 140
    assert [list(names) for names in frame["aus_sought_by"]] == [[f"{Redness.__module__}.Redness"]] * 140
    frame.at[7, "aus_sought_by"] = []  # a row that has come since
    write_manifest(frame, dataset)
    describe(dataset, aus=(again := Redness()))
    assert again.seen == [frame["sample_id"].iloc[7]]
    describe(dataset, aus=(asked := Redness()), overwrite=True)
    assert len(asked.seen) == 140


def test_the_grammar_names_the_aus_that_stay(dataset: Path, table: Path) -> None:
    """Without `overwrite` an AU by hand stays, and the caption must not name the table's instead."""
    frame = read_manifest(dataset)
    relaxed = UNKNOWN.copy()
    relaxed[AU_INDEX["12"]] = 0.0
    write_manifest(frame.assign(aus=[relaxed] * 140), dataset)
    describe(dataset, captions="grammar", aus=str(table))
    assert not read_manifest(dataset)["caption"].str.contains("pulled up lip corners").any()


def test_what_is_there_stays_unless_overwritten(dataset: Path, table: Path) -> None:
    frame = read_manifest(dataset)
    known = UNKNOWN.copy()
    known[[AU_INDEX["12"], AU_INDEX["9"]]] = 1.0, 2.0
    write_manifest(frame.assign(caption=["by hand", *[""] * 139], aus=[UNKNOWN, known, *[UNKNOWN] * 138]), dataset)
    done = describe(dataset, captions=Brightness(), aus=str(table))
    after = read_manifest(dataset)
    assert done.captions == 139 and after["caption"].iloc[0] == "by hand"
    assert after["aus"].iloc[1][[AU_INDEX["12"], AU_INDEX["9"], AU_INDEX["4"]]].tolist() == [1.0, 2.0, 0.0]
    describe(dataset, captions=Brightness(), aus=str(table), overwrite=True)
    after = read_manifest(dataset)
    assert after["caption"].iloc[0].startswith("a face of brightness")
    assert after["aus"].iloc[1][[AU_INDEX["12"], AU_INDEX["9"]]].tolist() == pytest.approx([5 / 129, 2.0])


def test_a_copy_leaves_the_dataset_alone(dataset: Path, table: Path, tmp_path: Path) -> None:
    before = (dataset / "manifest.parquet").read_bytes()
    done = describe(dataset, captions="grammar", aus=str(table), out=tmp_path / "described")
    assert (dataset / "manifest.parquet").read_bytes() == before
    assert done.folder == tmp_path / "described"
    assert dict(iter_encoded(done.folder)) == dict(iter_encoded(dataset))
    assert sorted(path.name for path in done.folder.iterdir()) == sorted(path.name for path in dataset.iterdir())
    with pytest.raises(DescribeError, match="described exists already"):
        describe(dataset, captions="grammar", out=tmp_path / "described")


def test_what_cannot_be_done_is_told_and_leaves_nothing(dataset: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DescribeError, match="nothing to describe"):
        describe(dataset)
    with pytest.raises(ActionUnitError, match=r"no\.csv is no file"):
        describe(dataset, aus=str(tmp_path / "no.csv"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sample_without_an_image_is_named_before_anything_is_written(dataset: Path) -> None:
    frame = read_manifest(dataset)
    write_manifest(pd.concat([frame, frame.head(1).assign(sample_id="lost")]), dataset)
    before = sorted(dataset.parent.rglob("*"))
    with pytest.raises(ImageError, match="no image for sample lost"):
        describe(dataset, captions=(captioner := Brightness()))
    assert captioner.seen == 0
    assert sorted(dataset.parent.rglob("*")) == before
    describe(dataset, captions="grammar")  # which does not look


@pytest.mark.parametrize("wrong", [{}, {"captions": "grammar"}, {"aus": "no.csv"}], ids=lambda wrong: " ".join(wrong))
def test_what_is_wrong_with_files_is_told_before_the_seconds_that_torch_takes(dataset: Path, wrong: dict[str, str]) -> None:
    where = dataset if "aus" in wrong else dataset / "nowhere"
    code = f"""
import sys
from pathlib import Path
from components.describe import describe
from synfer.errors import SynferError
try:
    describe(Path({str(where)!r}), **{wrong})
except SynferError:
    print("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
