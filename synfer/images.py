"""Images as bytes: encoding with the AI-generated mark, decoding with a clear error, and Parquet shards of them.

A dataset folder holds `manifest.parquet` (one row an image, no pixels) and `images-00000.parquet`, `images-00001.parquet`, ... with the
columns `sample_id` and `image` (a struct of `bytes` and `path`, the convention that `datasets.load_dataset("parquet")` reads as an Image).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from synfer.errors import SynferError
from synfer.files import DamagedFileError, whole_file

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media made by a trained model; written into every generated image."""

SHARD_SCHEMA = pa.schema([("sample_id", pa.string()), ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])


_DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)  # what reading a damaged Parquet file may raise


class ImageError(SynferError):
    """An image that is missing or cannot be decoded; the message names the file and the sample."""


class DamagedShardError(DamagedFileError, ImageError):
    """A shard that is cut off, or whose bytes are not those that were written."""


def encode_png(pixels: np.ndarray, *, generator: str | None = None) -> bytes:
    """PNG bytes of an RGB image uint8 (H, W, 3); `generator` names the model that drew it and adds the AI-generated mark."""
    marks = PngImagePlugin.PngInfo()
    if generator is not None:
        marks.add_text("DigitalSourceType", DIGITAL_SOURCE_TYPE)
        marks.add_text("Software", f"SynFER ({generator})")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=marks, compress_level=6)
    return buffer.getvalue()


def encode_webp(pixels: np.ndarray, *, quality: int = 85) -> bytes:
    """WebP bytes of an RGB image uint8 (H, W, 3): about a sixth of the PNG at 64 pixels, with the compression marks of a real corpus."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()


def decode(data: bytes, *, where: str) -> np.ndarray:
    """RGB pixels uint8 (H, W, 3) of encoded bytes; raises ImageError naming `where` if they are no whole image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        why = "of no known format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ImageError(f"{where}: not a readable image ({len(data)} bytes): {why}") from error


def is_marked_generated(data: bytes) -> bool:
    """Whether encoded bytes carry the AI-generated mark that `encode_png` writes."""
    with Image.open(io.BytesIO(data)) as image:
        return image.info.get("DigitalSourceType") == DIGITAL_SOURCE_TYPE


def shard_path(folder: Path, number: int) -> Path:
    """Path of a shard inside a dataset folder."""
    return folder / f"images-{number:05d}.parquet"


def write_shard(
    folder: Path, number: int, sample_ids: Sequence[str], images: Sequence[bytes], *, suffix: str = "png", checksums: bool = True
) -> Path:
    """Write one shard of encoded images, whole or not at all; returns its path.

    With `checksums`, every page carries its CRC-32, so that a reader sees changed bytes.
    """
    rows = [{"bytes": data, "path": f"{sample_id}.{suffix}"} for sample_id, data in zip(sample_ids, images, strict=True)]
    table = pa.table({"sample_id": pa.array(list(sample_ids), pa.string()), "image": pa.array(rows, SHARD_SCHEMA.field("image").type)})
    path = shard_path(folder, number)
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="none", write_page_checksum=checksums)  # the images are compressed already
    return path


def shard_paths(folder: Path) -> list[Path]:
    """Every shard of a dataset folder in order, or the one shard file that is asked for; raises ImageError if there is none."""
    paths = [folder] if folder.is_file() else sorted(folder.glob("images-*.parquet"))
    if not paths:
        raise ImageError(f"{folder} holds no images-*.parquet shard")
    return paths


def iter_shard(path: Path, *, columns: Sequence[str] | None = None, batch_size: int = 256) -> Iterator[pa.RecordBatch]:
    """Stream the rows of one shard; raises DamagedShardError if it is cut off, or if bytes have changed under a page's checksum."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield from file.iter_batches(batch_size=batch_size, columns=columns)
    except _DAMAGED as error:
        raise DamagedShardError(path, error) from error


def iter_encoded(folder: Path, *, batch_size: int = 256) -> Iterator[tuple[str, bytes]]:
    """Stream (sample_id, encoded bytes) of a dataset folder in shard order, or of one shard file; memory does not grow with its size."""
    for path in shard_paths(folder):
        for batch in iter_shard(path, columns=["sample_id", "image"], batch_size=batch_size):
            images = batch.column("image").field("bytes")
            yield from zip(batch.column("sample_id").to_pylist(), images.to_pylist(), strict=True)


def iter_sample_ids(folder: Path) -> Iterator[str]:
    """Stream the sample ids of a dataset folder in shard order, or of one shard file; no image is read."""
    for path in shard_paths(folder):
        for batch in iter_shard(path, columns=["sample_id"]):
            yield from batch.column("sample_id").to_pylist()


def iter_images(folder: Path, sample_ids: Iterable[str] | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Stream (sample_id, RGB pixels uint8 (H, W, 3)) of the wanted samples (default: all) in shard order; one missing raises ImageError.

    `folder` may be one shard file of a dataset folder.
    """
    wanted = None if sample_ids is None else set(sample_ids)
    for sample_id, data in iter_encoded(folder):
        if wanted is None or sample_id in wanted:
            yield sample_id, decode(data, where=f"{folder}, sample {sample_id}")
            if wanted is not None:
                wanted.discard(sample_id)
    if wanted:
        raise ImageError(f"{folder} has no image for sample {min(wanted)} (and {len(wanted) - 1} more)")


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """RGB image uint8 (size, size, 3), resampled with Lanczos when the size differs."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS))


def load_images(folder: Path, sample_ids: Sequence[str], *, size: int) -> np.ndarray:
    """RGB pixels uint8 (N, size, size, 3) of the samples in the order asked."""
    position = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    pixels = np.empty((len(sample_ids), size, size, 3), dtype=np.uint8)
    for sample_id, image in iter_images(folder, sample_ids):
        pixels[position[sample_id]] = resize(image, size)
    return pixels
