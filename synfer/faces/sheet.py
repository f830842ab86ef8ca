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
    titles: Sequence[str] | None = None,
    scale: int = 2,
) -> Image.Image:
    """A grid of images, uint8 (N, H, W, 3), `columns` a row, enlarged `scale` times; a title beside each row, one above each image.

    Raises ValueError where the titles do not match the images.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype} {images.shape}; a sheet takes uint8 (N, H, W, 3)")
    rows = -(-len(images) // columns)
    if row_titles is not None and len(row_titles) != rows:
        raise ValueError(f"{len(row_titles)} row titles for {rows} rows")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} images")
    font = ImageFont.load_default(size=11)
    height, width = images.shape[1] * scale, images.shape[2] * scale
    left = MARGIN + (max(int(font.getlength(title)) for title in row_titles) + MARGIN if row_titles else 0)
    step_x, step_y = width + GAP, height + GAP + (LINE if titles is not None else 0)
    sheet = Image.new("RGB", (left + columns * step_x + MARGIN, 2 * MARGIN + rows * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        x, y = left + (index % columns) * step_x, MARGIN + (index // columns) * step_y
        if titles is not None:
            draw.text((x + 1, y), titles[index], fill=INK, font=font)
            y += LINE
        sheet.paste(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC), (x, y))
    for row, title in enumerate(row_titles or ()):
        draw.text((MARGIN, MARGIN + row * step_y + step_y // 2 - LINE // 2), title, fill=INK, font=font)
    return sheet
