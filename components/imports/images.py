"""Images of an imported data set: read, cropped where the set says where the face is, checked, and fit to be written into a shard."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from components.near_duplicates import perceptual_hash
from synfer.datasets.entries import Item
from synfer.images import ImageError, decode, encode_png, encode_webp, resize

_KEPT = ("PNG", "JPEG", "WEBP")  # what a browser and every reader of a release can show; other formats become PNG
_LOSSY = ("JPEG", "WEBP")
_QUALITY = 95  # of a crop from a lossy image


@dataclass(frozen=True, slots=True)
class Checked:
    """An image that can be taken: its bytes as they will be stored, their digest, and the perceptual hash of the pixels."""

    data: bytes
    sha256: str
    hash: tuple[int, ...]
    blank: bool


def check_image(item: Item, *, size: int | None = None) -> Checked:
    """Read and decode an image; raises ImageError naming it if that cannot be done or if the face lies outside.

    Bytes are kept as they are unless the set gives the face's box, the format is one that browsers do not show, or `size` asks for the
    square in the middle, scaled to so many pixels.
    """
    data, kind, pixels = _decoded(item)
    whole = pixels
    if item.box is not None:
        pixels = _cropped(pixels, item.box, item.where)
    if size is not None:
        pixels = resize(square(pixels), size)
    if pixels is not whole or kind not in _KEPT:
        data = encode_webp(pixels, quality=_QUALITY) if kind in _LOSSY else encode_png(pixels)
    return Checked(data, hashlib.sha256(data).hexdigest(), perceptual_hash(pixels), blank=bool(pixels.min() == pixels.max()))


def format_of(data: bytes) -> str:
    """File name suffix of encoded bytes: png, jpeg or webp."""
    with Image.open(io.BytesIO(data)) as image:
        return str(image.format).lower()


def _decoded(item: Item) -> tuple[bytes, str, np.ndarray]:
    try:
        data = item.read()
        pixels = decode(data, where=item.where)
        with Image.open(io.BytesIO(data)) as image:
            return data, str(image.format), pixels
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{item.where}: the image does not exist") from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{item.where}: not a readable image: {error}") from error


def _cropped(pixels: np.ndarray, box: tuple[int, int, int, int], where: str) -> np.ndarray:
    left, top, width, height = box
    found = pixels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if not found.size:
        raise ImageError(f"{where}: the face's box {box} lies outside the image of {pixels.shape[1]} x {pixels.shape[0]} pixels")
    return np.ascontiguousarray(found)


def square(pixels: np.ndarray) -> np.ndarray:
    """The square in the middle of an image."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
