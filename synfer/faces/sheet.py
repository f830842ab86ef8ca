"""Labelled contact sheets of faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, GAP, LINE = 8, 3, 14
INK, PAPER = (40, 40, 40), (255, 255, 255)


def labelled_sheet(
    images: np.ndarray,
    *,
    columns: int,
    row_titles: Sequence[str] | None = None,
    column_titles: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    heading: str = "",
    scale: int = 2,
) -> Image.Image:
    """A grid of images, uint8 (N, H, W, 3), `columns` a row, enlarged `scale` times.

    A title stands beside each row (it may have several lines), above each column and above each image; `heading` is the first line.
    Raises ValueError where the titles do not match the images.
    """
    _check(images, columns=columns, row_titles=row_titles, column_titles=column_titles, titles=titles)
    font = ImageFont.load_default(size=11)
    rows = -(-len(images) // columns)
    height, width = images.shape[1] * scale, images.shape[2] * scale
    left = MARGIN + (max(_width(font, title) for title in row_titles) + MARGIN if row_titles else 0)
    top = MARGIN + LINE * bool(heading) + LINE * (column_titles is not None)
    step_x, step_y = width + GAP, height + GAP + (LINE if titles is not None else 0)
    right = max(left + columns * step_x, MARGIN + _width(font, heading))
    sheet = Image.new("RGB", (right + MARGIN, top + MARGIN + rows * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 2), heading, fill=INK, font=font)
    for column, title in enumerate(column_titles or ()):
        draw.text((left + column * step_x + width // 2, top - LINE), title, fill=INK, font=font, anchor="ma")
    for index, image in enumerate(images):
        x, y = left + (index % columns) * step_x, top + (index // columns) * step_y
        if titles is not None:
            draw.text((x + 1, y), titles[index], fill=INK, font=font)
            y += LINE
        sheet.paste(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC), (x, y))
    for row, title in enumerate(row_titles or ()):
        middle = top + row * step_y + step_y // 2 - LINE * len(title.split("\n")) // 2
        draw.multiline_text((MARGIN, middle), title, fill=INK, font=font, spacing=3)
    return sheet


def _check(
    images: np.ndarray,
    *,
    columns: int,
    row_titles: Sequence[str] | None,
    column_titles: Sequence[str] | None,
    titles: Sequence[str] | None,
) -> None:
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype} {images.shape}; a sheet takes uint8 (N, H, W, 3)")
    rows = -(-len(images) // columns)
    if row_titles is not None and len(row_titles) != rows:
        raise ValueError(f"{len(row_titles)} row titles for {rows} rows")
    if column_titles is not None and len(column_titles) != columns:
        raise ValueError(f"{len(column_titles)} column titles for {columns} columns")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} images")


def _width(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> int:
    """Width in pixels of the longest line."""
    return max(int(font.getlength(line)) for line in text.split("\n"))
