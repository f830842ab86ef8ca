"""`synfer export` writes what other libraries read, leaves out nothing that was asked for, and is whole or not there."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")  # before the library is imported

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.export.reader import read_export
from components.export.write import WRITERS, ExportError, export
from components.release import write_checksums
from components.releases.folder import ReleaseError, iter_release
from flows.cli import main
from synfer.vocabulary import EXPRESSIONS, VocabularyError

FORMATS = tuple(WRITERS)


def rows(tables: Iterable[pa.Table]) -> list[dict[str, Any]]:
    return [row for table in tables for row in table.to_pylist()]


def released(release: Path, *, split: str | None = None, with_rejected: bool = False) -> list[dict[str, Any]]:
    """Rows of the release as an export has them: split by split, in the order of the release."""
    found = rows(iter_release(release, split=split, with_rejected=with_rejected))
    return sorted(found, key=lambda row: row["split"])


def numbers(row: dict[str, Any]) -> str:
    """Text that is equal where all values are, NaN included."""
    return repr(row)


def damaged(release: Path, folder: Path, **values: Any) -> Path:
    """A copy of the release whose sample syn-0003 has other values in the first shard."""
    shutil.copytree(release, folder)
    path = folder / "images-00000.parquet"
    changed = [row | values if row["sample_id"] == "syn-0003" else row for row in pq.read_table(path).to_pylist()]
    pq.write_table(pa.Table.from_pylist(changed, pq.read_schema(path)), path)
    return folder


@pytest.fixture(params=FORMATS)
def to(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    "asked",
    [{}, {"with_rejected": True}, {"split": "val"}, {"label": "expression", "with_rejected": True}],
    ids=["usable", "all", "val", "by expression"],
)
def test_an_export_reads_back_as_the_release(release: Path, tmp_path: Path, to: str, asked: dict[str, Any]) -> None:
    done = export(release, tmp_path / "out", to=to, **asked)
    wanted = released(release, **{name: value for name, value in asked.items() if name != "label"})
    found = rows(read_export(tmp_path / "out"))
    assert list(map(numbers, found)) == list(map(numbers, wanted))
    assert (done.images, done.left_out) == (len(wanted), 70 - len(wanted))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_types_survive(release: Path, tmp_path: Path, to: str) -> None:
    export(release, tmp_path / "out", to=to)
    table = next(read_export(tmp_path / "out"))
    assert {field.name: field.type for field in table.schema} == {field.name: field.type for field in next(iter_release(release)).schema}


def test_the_same_release_gives_the_same_bytes(release: Path, tmp_path: Path, to: str) -> None:
    for name in ("one", "two"):
        export(release, tmp_path / name, to=to)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_shards_hold_a_thousand_images_and_say_how_many_there_are(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.export.parquet.SHARD_IMAGES", 25)
    monkeypatch.setattr("components.export.webdataset.SHARD_IMAGES", 25)
    for to, under in (("parquet", "data"), ("webdataset", ".")):
        export(release, tmp_path / to, to=to, with_rejected=True)
        names = sorted(path.name for path in (tmp_path / to / under).glob("*-0*"))
        of = "-of-00003.parquet" if to == "parquet" else ".tar"
        assert names == [*(f"train-{number:05d}{of}" for number in range(3)), f"val-00000{of.replace('3', '1')}"]
        assert list(map(numbers, rows(read_export(tmp_path / to)))) == list(map(numbers, released(release, with_rejected=True)))


def test_an_earlier_export_is_replaced_and_nothing_else(release: Path, tmp_path: Path) -> None:
    export(release, tmp_path / "out", to="imagefolder")
    export(release, tmp_path / "out", to="webdataset", split="val")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["CARD.md", "README.md", "export.json", "val-00000.tar"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    (tmp_path / "file").touch()
    for out, told in (("mine", "holds something else than an earlier export"), ("file", "is a file; give a folder")):
        with pytest.raises(ExportError, match=told):
            export(release, tmp_path / out, to="parquet")
    for inside in (release, release / "export", release.parent):
        with pytest.raises(ExportError, match="lie in one another"):
            export(release, inside, to="parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine", "out"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"to": "tar"}, "unknown format 'tar'; known: imagefolder, webdataset, parquet"),
        ({"to": "parquet", "label": "aus"}, "unknown label 'aus'; known: label, expression"),
        ({"to": "parquet", "split": "tain"}, "unknown split 'tain' (did you mean 'train'?)"),
        ({"to": "parquet", "split": "test"}, "has no image for this export: split test, without rejected ones"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(release: Path, tmp_path: Path, asked: dict[str, str], told: str) -> None:
    with pytest.raises((VocabularyError, ExportError)) as raised:
        export(release, tmp_path / "out", **asked)  # type: ignore[arg-type]
    assert told in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sha256": "0" * 64}, "sample syn-0003: the image has changed, see what is wrong with: synfer verify"),
        ({"image": None}, "sample syn-0003: the image has changed"),
        ({"label": "joy"}, "sample syn-0003: label is 'joy', which is no class"),
        ({"sample_id": "a/../b"}, "sample_id 'a/../b' cannot name a file"),
        ({"reason": None}, "sample syn-0003: reason has a null, which text cannot hold; export to parquet instead"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_a_damaged_release_is_not_exported(release: Path, tmp_path: Path, values: dict[str, Any], told: str) -> None:
    broken = damaged(release, tmp_path / "broken", **values)
    with pytest.raises((ReleaseError, ExportError), match=told):
        export(broken, tmp_path / "out", to="imagefolder")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_a_null_survives_in_parquet(release: Path, tmp_path: Path) -> None:
    export(damaged(release, tmp_path / "broken", reason=None), tmp_path / "out", to="parquet")
    assert [row["sample_id"] for row in rows(read_export(tmp_path / "out")) if row["reason"] is None] == ["syn-0003"]


def lose_a_shard(broken: Path) -> None:
    (broken / "images-00001.parquet").unlink()


def lose_a_column(broken: Path) -> None:
    for path in broken.glob("images-*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["action"]), path)


@pytest.mark.parametrize("lose", [lose_a_shard, lose_a_column])
def test_an_incomplete_release_is_not_exported(release: Path, tmp_path: Path, to: str, lose: Callable[[Path], None]) -> None:
    broken = shutil.copytree(release, tmp_path / "broken")
    lose(broken)
    with pytest.raises(ReleaseError, match="do not agree with its manifest, see what is wrong with: synfer verify"):
        export(broken, tmp_path / "out", to=to)


_KILLED = """
import os, random, shutil, signal, sys
from pathlib import Path
from components.export.write import export
from synfer.files import sha256

release, out, to = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def run(kill_at, asked):
    # In a child, which kills itself when Python opens, makes, renames or removes the kill_at-th file or folder of the export.
    child = os.fork()
    if child == 0:
        events = 0
        def count(event, arguments):
            nonlocal events
            if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlsym"):
                events += 1
                if events == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        export(release, out, to=to, **asked)
        (out.parent / "events").write_text(str(events))
        os._exit(0)
    return os.waitpid(child, 0)[1]

def state():
    return states.get(sha256(out), "half") if out.exists() else "nothing"

def prepare(before):
    shutil.rmtree(out, ignore_errors=True)
    if before == "old":
        shutil.copytree(out.with_name("old"), out)

states, events = {}, {}
for before, asked, after in (("nothing", {"with_rejected": True}, "old"), ("nothing", {}, "new"), ("old", {}, "new")):
    prepare(before)
    assert run(0, asked) == 0
    states[sha256(out)] = after
    events[before] = int((out.parent / "events").read_text())
    if not out.with_name(after).exists():
        out.rename(out.with_name(after))
assert len(states) == 2
rng = random.Random(1)
for before, last in events.items():
    for point in sorted({*rng.sample(range(1, last), 6), *range(last - 4, last + 1)}):
        prepare(before)
        assert run(point, {}) == signal.SIGKILL
        assert state() in (before, "new"), (before, point, state())
        print(before, point, state())
prepare("nothing")
assert run(0, {}) == 0
assert state() == "new"
left = sorted(path.name for path in out.parent.iterdir())
assert left == ["events", "new", "old", "out"], left
"""


def test_a_killed_export_leaves_the_old_state_or_the_new(release: Path, tmp_path: Path, root: Path, to: str) -> None:
    arguments = [sys.executable, "-c", _KILLED, str(release), str(tmp_path / "out"), to]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = [line.split() for line in done.stdout.splitlines()]
    assert {(before, after) for before, _, after in outcomes} >= {("nothing", "nothing"), ("old", "old"), ("old", "new")}


# --- the real libraries ---------------------------------------------------------------------------------------------------------------


def load(release: Path, tmp_path: Path, to: str, **options: Any) -> Any:
    """An export as `datasets` reads it by its folder alone."""
    datasets = pytest.importorskip("datasets")
    export(release, tmp_path / "out", to=to, **options)
    return datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))


def check_image(image: Image.Image, row: dict[str, Any]) -> None:
    assert (np.asarray(image) == np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))).all()


def test_datasets_reads_parquet_with_class_names_and_images(release: Path, tmp_path: Path) -> None:
    found = load(release, tmp_path, "parquet")
    wanted = released(release, split="train")
    assert {name: len(part) for name, part in found.items()} == {"train": len(wanted), "val": 9}
    assert found["train"].features["label"].names == list(EXPRESSIONS)
    assert [EXPRESSIONS[number] for number in found["train"]["label"]] == [row["label"] for row in wanted]
    assert found["train"]["reason"][:] == [row["reason"] for row in wanted]
    assert np.array_equal(np.array(found["train"]["aus"][:]), np.array([row["aus"] for row in wanted]), equal_nan=True)
    check_image(found["train"][5]["image"], wanted[5])


def test_datasets_reads_class_folders_with_their_metadata(release: Path, tmp_path: Path) -> None:
    found = load(release, tmp_path, "imagefolder", label="expression", with_rejected=True)
    wanted = {row["sample_id"]: row for row in released(release, with_rejected=True)}
    assert sum(map(len, found.values())) == 70
    assert set(found["train"].column_names) == set(wanted["syn-0000"])
    for row in found["train"]:
        same = wanted[row["sample_id"]]
        assert [row[name] for name in ("label", "caption", "seed")] == [same[name] for name in ("label", "caption", "seed")]
        assert np.allclose(json.loads(row["posterior"]), same["posterior"])
        check_image(row["image"], same)


def test_datasets_reads_tar_shards(release: Path, tmp_path: Path) -> None:
    found = load(release, tmp_path, "webdataset")
    wanted = released(release, split="train")
    assert [row["label"] for row in found["train"]["json"]] == [row["label"] for row in wanted]
    check_image(found["train"][7]["png"], wanted[7])


def test_datasets_reads_a_release_as_it_is(release: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    files = [str(path) for path in sorted(release.glob("images-*.parquet"))]
    found = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
    wanted = rows(iter_release(release))
    assert found["label"][:] == [row["label"] for row in wanted]
    check_image(found[69]["image"], wanted[69])


def test_webdataset_reads_tar_shards(release: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    export(release, tmp_path / "out", to="webdataset", label="expression", with_rejected=True)
    shards = [str(path) for path in sorted((tmp_path / "out").glob("train-*.tar"))]
    found = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("__key__", "png", "cls", "json")
    wanted = released(release, split="train", with_rejected=True)
    count = 0
    for (key, image, number, values), row in zip(found, wanted, strict=True):
        assert (key, EXPRESSIONS[number], values["label"], values["seed"]) == tuple(
            row[name] for name in ("sample_id", "expression", "label", "seed")
        )
        check_image(image, row)
        count += 1
    assert count == 60


def test_torchvision_reads_class_folders(release: Path, tmp_path: Path) -> None:
    import synfer.torchvision_shim  # noqa: F401

    from torchvision.datasets import ImageFolder

    export(release, tmp_path / "out", to="imagefolder")
    found = ImageFolder(str(tmp_path / "out" / "train"))
    wanted = {f"{row['sample_id']}.png": row for row in released(release, split="train")}
    assert len(found) == len(wanted)
    for (path, number), (image, _) in zip(found.samples, found, strict=True):
        row = wanted[Path(path).name]
        assert Path(path).read_bytes() == row["image"]["bytes"]
        assert found.classes[number] == row["label"]
        check_image(image, row)


def test_pandas_reads_the_metadata(release: Path, tmp_path: Path) -> None:
    export(release, tmp_path / "out", to="imagefolder")
    frame = pd.read_csv(tmp_path / "out" / "train" / "metadata.csv", keep_default_na=False)
    wanted = released(release, split="train")
    assert frame["file_name"].tolist() == [f"{row['label']}/{row['sample_id']}.png" for row in wanted]
    assert frame["weight"].tolist() == [row["weight"] for row in wanted]
    assert (frame["identity"] == "").all()


def test_the_code_of_the_readme_works(release: Path, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("webdataset")
    import synfer.torchvision_shim  # noqa: F401

    export(release, tmp_path / "out", to=to)
    code = re.search(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path / "out")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    names: dict[str, Any] = {}
    exec(code[1], names)
    faces = names["faces"]["train"] if to == "parquet" else names["faces"]
    assert sum(1 for _ in faces) == 54


def test_the_command_says_what_it_wrote(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", str(release), "--to", "webdataset", "--out", str(tmp_path / "out")])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{tmp_path / 'out'}: 63 images (54 train, 9 val); 7 left out\n")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "63 images of the release small" in text
    assert "7 of the release are left out, the rejected ones among them" in text
    assert (tmp_path / "out" / "CARD.md").read_bytes() == (release / "CARD.md").read_bytes()


def test_an_export_of_no_release_is_refused(release: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"is no export: it holds no export\.json"):
        next(read_export(release))
    bare = shutil.copytree(release, tmp_path / "bare")
    (bare / "CARD.md").unlink()
    write_checksums(bare)
    with pytest.raises(ReleaseError, match=r"bare lacks CARD\.md"):
        export(bare, tmp_path / "out", to="parquet")
