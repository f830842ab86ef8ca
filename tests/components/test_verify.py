"""`synfer verify` finds what is wrong with a release and says where; a whole release passes."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.release import write_checksums
from components.releases.verify import verify
from flows.cli import main

FIRST, SECOND, MANIFEST = "images-00000.parquet", "images-00001.parquet", "manifest.parquet"
Rows = list[dict[str, Any]]


@pytest.fixture
def folder(release: Path, tmp_path: Path) -> Path:
    """A copy of the release, to be damaged."""
    return shutil.copytree(release, tmp_path / "small")


def findings(folder: Path) -> list[str]:
    found: list[str] = []
    assert verify(folder, lambda finding: found.append(str(finding))).findings == len(found)
    return found


def seal(folder: Path) -> None:
    """Checksums that agree with whatever the files hold now."""
    (folder / "SHA256SUMS").unlink()
    write_checksums(folder)


def change(folder: Path, names: tuple[str, ...], how: Callable[[Rows], object]) -> None:
    """Change the rows of files, and the checksums accordingly."""
    for name in names:
        schema = pq.read_schema(folder / name)
        rows = pq.read_table(folder / name).to_pylist()
        how(rows)
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / name, compression="zstd")
    seal(folder)


def change_sample(folder: Path, names: tuple[str, ...], sample: str, **values: Any) -> None:
    change(folder, names, lambda rows: [row.update(values) for row in rows if row["sample_id"] == sample])


def replace_image(folder: Path, sample: str, data: bytes) -> None:
    """Another image of a sample, with everything else made to agree."""
    change_sample(folder, (FIRST,), sample, image={"bytes": data, "path": f"{sample}.png"})
    change_sample(folder, (FIRST, MANIFEST), sample, sha256=hashlib.sha256(data).hexdigest())


def image_of(folder: Path, sample: str) -> bytes:
    (data,) = (row["image"]["bytes"] for row in pq.read_table(folder / FIRST).to_pylist() if row["sample_id"] == sample)
    return bytes(data)


def test_a_release_as_it_was_published_passes(release: Path) -> None:
    found: list[str] = []
    done = verify(release, lambda finding: found.append(str(finding)))
    assert (found, done.images, done.findings) == ([], 70, 0)


@pytest.mark.parametrize("position", [0, *random.Random(0).sample(range(5, 170_000), 8), -30, -6, -1])
def test_one_changed_byte_of_a_shard_is_found(folder: Path, position: int) -> None:
    path = folder / FIRST
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << 3
    path.write_bytes(data)
    assert findings(folder)[0].startswith(f"{FIRST}: has changed: its SHA-256 is {hashlib.sha256(data).hexdigest()[:12]}")


def test_one_changed_byte_of_any_file_is_found_and_the_file_is_named(folder: Path) -> None:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole, name = path.read_bytes(), path.relative_to(folder).as_posix()
        for place in (0, len(whole) // 2, -1):
            changed = bytearray(whole)
            changed[place] ^= 1
            path.write_bytes(changed)
            assert name in findings(folder)[0], f"byte {place} of {name}"
        path.write_bytes(whole)
    assert findings(folder) == []


def test_one_changed_byte_of_an_image_is_found_with_its_sample(folder: Path) -> None:
    data = bytearray(image_of(folder, "syn-0004"))
    data[len(data) // 2] ^= 1
    change_sample(folder, (FIRST,), "syn-0004", image={"bytes": bytes(data), "path": "syn-0004.png"})
    found = findings(folder)
    assert found[0].startswith(f"{FIRST}, sample syn-0004: its image has changed: the SHA-256 is")
    assert all(line.startswith(f"{FIRST}, sample syn-0004: ") for line in found)


def test_a_changed_label_is_found_though_the_checksums_agree(folder: Path) -> None:
    change_sample(folder, (FIRST,), "syn-0003", label="anger")
    assert findings(folder) == [f"{FIRST}, sample syn-0003: label is 'anger', {MANIFEST} has 'surprise'"]


def test_a_label_that_was_changed_everywhere_disagrees_with_posterior_intent_and_card(folder: Path) -> None:
    change_sample(folder, (FIRST, MANIFEST), "syn-0003", label="anger")
    found = findings(folder)
    assert f"{MANIFEST}, sample syn-0003: action is keep, but the label is anger and surprise was asked" in found
    assert any(line.startswith(f"{MANIFEST}, sample syn-0003: label is anger, but the posterior is surest of surprise") for line in found)
    assert f"CARD.md: its head states by_label.anger.keep = 7, {MANIFEST} has 8" in found
    assert any(line.startswith("CARD.md: states '| surprise | 10 |") for line in found)


def test_a_changed_action_unit_is_found(folder: Path) -> None:
    aus = next(row for row in pq.read_table(folder / MANIFEST).to_pylist() if row["sample_id"] == "syn-0005")["aus"]
    change_sample(folder, (FIRST,), "syn-0005", aus=[*aus[:9], 4.5, *aus[10:]])
    assert findings(folder) == [f"{FIRST}, sample syn-0005: aus of 12 is 4.5, {MANIFEST} has {aus[9]!r}"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("    images: 70\n", "    images: 71\n", f"CARD.md: its head states images = 71, {MANIFEST} has 70"),
        ("      val: 10\n", "      val: 9\n", f"CARD.md: its head states by_split.val = 9, {MANIFEST} has 10"),
        ("| neutral | 10 | 7 |", "| neutral | 10 | 8 |", "CARD.md: states '| neutral | 10 | 8 | 1 | 1 | 1 |'"),
        ("63 of the 70 images", "63 of the 80 images", "CARD.md: states '63 of the 80 images are meant for training (90.0\\u202f%);'"),
        ("  image_size: 64", "  image_size: 128", "CARD.md: states images of 128 x 128 pixels, the shards have some of 64 x 64"),
        ("## Counts", "## Number", "CARD.md: its section of counts has 1 lines"),
        ("synfer:\n", "other:\n", "CARD.md: it has no head that states counts"),
        ("pretty_name: small", "pretty_name: {small", "CARD.md: its head is not YAML"),
    ],
    ids=lambda value: value.strip()[:20],
)
def test_a_changed_count_of_the_card_is_found(folder: Path, old: str, new: str, told: str) -> None:
    text = (folder / "CARD.md").read_text(encoding="utf-8")
    assert old in text
    (folder / "CARD.md").write_text(text.replace(old, new, 1), encoding="utf-8")
    seal(folder)
    (line,) = findings(folder)
    assert line.startswith(told)


def test_missing_extra_and_changed_files_are_named(folder: Path) -> None:
    (folder / "CARD.md").unlink()
    (folder / "notes.txt").write_text("mine")
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    (folder / "SHA256SUMS").write_text("\n".join([*lines[:-1], "0" * 64 + lines[-1][64:], "rubbish"]))
    assert findings(folder)[:4] == [
        f"SHA256SUMS: line {len(lines) + 1} is no checksum of a file, or the second one of the same: 'rubbish'",
        "CARD.md: is missing, SHA256SUMS lists it",
        "notes.txt: is not listed in SHA256SUMS",
        f"{MANIFEST}: has changed: its SHA-256 is {hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()[:12]}..., "
        "SHA256SUMS has 000000000000...",
    ]


def test_an_image_without_the_mark_is_found(folder: Path) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(image_of(folder, "syn-0006"))).save(buffer, "PNG")  # Pillow writes no text unless it is told
    replace_image(folder, "syn-0006", buffer.getvalue())
    assert findings(folder) == [f"{FIRST}, sample syn-0006: its image lacks the AI-generated mark: DigitalSourceType is None"]


def test_an_image_that_cannot_be_decoded_is_found(folder: Path) -> None:
    replace_image(folder, "syn-0007", image_of(folder, "syn-0007")[:-200])
    (line,) = findings(folder)
    assert line.startswith(f"{FIRST}, sample syn-0007: its image cannot be decoded (")


def test_rows_that_are_missing_doubled_or_strange_are_named(folder: Path) -> None:
    change(folder, (SECOND,), lambda rows: (rows.pop(3), rows.append(rows[0]), rows[5].update(sample_id="who")))
    assert sorted(findings(folder)) == [
        f"{SECOND}, sample syn-0040: {MANIFEST} has no such sample, or the shards have it more than once",
        f"{SECOND}, sample who: {MANIFEST} has no such sample, or the shards have it more than once",
        f"{MANIFEST}, sample syn-0043: no shard has its image, or the manifest has it more than once",
        f"{MANIFEST}, sample syn-0046: no shard has its image, or the manifest has it more than once",
    ]


def test_the_order_of_the_rows_does_not_matter(folder: Path) -> None:
    change(folder, (SECOND,), lambda rows: rows.reverse())
    assert findings(folder) == []


def test_a_shard_that_is_gone_is_one_finding_a_file_and_one_a_sample(folder: Path) -> None:
    (folder / SECOND).unlink()
    found = findings(folder)
    assert found[0] == f"{SECOND}: is missing, SHA256SUMS lists it"
    missing = "no shard has its image, or the manifest has it more than once"
    assert found[1:] == [f"{MANIFEST}, sample syn-{row:04d}: {missing}" for row in range(40, 70)]


def test_a_column_that_is_missing_is_named_once(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / FIRST).drop_columns(["entropy"]), folder / FIRST)
    seal(folder)
    assert findings(folder) == [f"{FIRST}: column 'entropy' is missing, in {MANIFEST} it is float"]


def test_a_column_of_another_type_is_named(folder: Path) -> None:
    table = pq.read_table(folder / FIRST)
    pq.write_table(table.set_column(table.column_names.index("seed"), "seed", table["seed"].cast(pa.string())), folder / FIRST)
    seal(folder)
    assert findings(folder) == [
        f"{FIRST}: column 'seed' is string, in {MANIFEST} it is int64",
        f"{FIRST}: cannot be read: its column 'seed' is string, not int64",
        f"{MANIFEST}: 40 samples have no image in what could be read of the shards, the first is syn-0000",
    ]


def test_a_manifest_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"PAR1")
    seal(folder)
    found = findings(folder)
    assert found[0].startswith(f"{MANIFEST}: cannot be read: ")
    assert found[1:] == [f"CARD.md: its counts could not be checked, for {MANIFEST} cannot be read"]


def test_the_command_prints_what_is_wrong_and_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(folder)])
    assert (ended.value.code, capsys.readouterr().out.split(": ")[1]) == (0, "70 images, nothing is wrong\n")
    change_sample(folder, (FIRST,), "syn-0003", label="anger")
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(folder)])
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert out == f"{FIRST}, sample syn-0003: label is 'anger', {MANIFEST} has 'surprise'\n"
    assert err.splitlines()[-1] == f"synfer: {folder}: 1 thing is wrong, see above"


def test_a_name_is_looked_up_in_the_project(release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    root = release.parents[2]
    (root / "params.yaml").touch()
    monkeypatch.chdir(root / "data")
    with pytest.raises(SystemExit) as ended:
        main(["verify", "small"])
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main(["verify", "smal"])
    assert ended.value.code == 1
    assert "unknown release 'smal' (did you mean 'small'?); known: small" in capsys.readouterr().err
