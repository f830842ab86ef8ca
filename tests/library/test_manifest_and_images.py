"""Manifests and image shards: what is written comes back, what breaks the schema is named, nothing is half-written."""

import numpy as np
import pandas as pd
import pytest

from synfer.images import (
    ImageError,
    decode,
    encode_png,
    encode_webp,
    is_marked_generated,
    iter_images,
    load_images,
    shard_path,
    write_shard,
)  # fmt: skip
from synfer.manifest import ManifestError, check_manifest, read_manifest, stack, write_manifest
from synfer.vocabulary import AU_COUNT


def frame(count: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(count)], "split": "train", "identity": "p", "expression": "fear", "caption": "a face",
            "aus": [np.full(AU_COUNT, i, np.float32) for i in range(count)], "seed": range(count), "sha256": "0",
        }
    )  # fmt: skip


def pictures(count: int = 3, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_a_manifest_comes_back_and_its_bytes_depend_on_its_rows(tmp_path):
    write_manifest(frame(), tmp_path / "a")
    write_manifest(frame(), tmp_path / "b")
    again = read_manifest(tmp_path / "a")
    assert again["sample_id"].tolist() == ["s0", "s1", "s2"]
    assert stack(again, "aus")[2].tolist() == [2.0] * AU_COUNT
    assert (tmp_path / "a" / "manifest.parquet").read_bytes() == (tmp_path / "b" / "manifest.parquet").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"expression": "joy"}, "unknown expression 'joy'"),
        ({"sample_id": "same"}, "'same' occurs more than once"),
        ({"aus": [np.zeros(5)] * 3}, f"has 5 AU intensities, not {AU_COUNT}"),
        ({"aus": [np.full(AU_COUNT, 7.0)] * 3}, "intensity of 7 lies outside 0..5"),
    ],
)
def test_what_breaks_the_schema_is_named_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(ManifestError, match=message):
        write_manifest(frame().assign(**change), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_column_is_named():
    with pytest.raises(ManifestError, match="column 'caption' is missing"):
        check_manifest(frame().drop(columns="caption"))


def test_a_torn_manifest_names_its_file(tmp_path):
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(ManifestError, match=r"manifest\.parquet"):
        read_manifest(tmp_path)


def test_png_is_exact_and_carries_the_mark_only_when_generated():
    pixels = pictures()[0]
    drawn, plain = encode_png(pixels, generator="tiny-sd"), encode_png(pixels)
    assert np.array_equal(decode(drawn, where="here"), pixels)
    assert is_marked_generated(drawn) and not is_marked_generated(plain) and not is_marked_generated(encode_webp(pixels))


def test_images_come_in_the_order_asked_over_shards(tmp_path):
    pixels = pictures(4)
    for number in range(2):
        rows = slice(2 * number, 2 * number + 2)
        write_shard(tmp_path, number, [f"s{i}" for i in range(4)][rows], [encode_png(p) for p in pixels[rows]])
    assert np.array_equal(load_images(tmp_path, ["s3", "s0"], size=16), pixels[[3, 0]])
    assert [name for name, _ in iter_images(tmp_path)] == ["s0", "s1", "s2", "s3"]
    assert load_images(tmp_path, ["s1"], size=8).shape == (1, 8, 8, 3)


def test_missing_and_corrupt_images_are_named(tmp_path):
    write_shard(tmp_path, 0, ["good", "bad"], [encode_png(pictures()[0]), b"no image"])
    with pytest.raises(ImageError, match=r"sample bad: not a readable image \(8 bytes\): of no known format"):
        load_images(tmp_path, ["bad"], size=16)
    with pytest.raises(ImageError, match="no image for sample lost"):
        load_images(tmp_path, ["lost"], size=16)
    with pytest.raises(ImageError, match="holds no images"):
        load_images(tmp_path / "empty", ["good"], size=16)
    assert shard_path(tmp_path, 0).is_file()
