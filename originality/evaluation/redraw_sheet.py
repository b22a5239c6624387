"""Sheets: rows of images on one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

COLUMNS = 8
"""Images in a row of a sheet."""

TILE = 192
"""Pixels of the side of an image on a sheet, at most."""


def tiles(images: np.ndarray) -> np.ndarray:
    """What a sheet shows of a row of images, uint8 (n, side, side, 3): the first few, made small. Tiles of
    tiles are the same tiles."""
    side = min(TILE, images.shape[1])
    shown = [Image.fromarray(i).resize((side, side), Image.Resampling.LANCZOS) for i in images[:COLUMNS]]
    return np.stack([np.asarray(i) for i in shown])


def sheet(rows: Sequence[np.ndarray]) -> Image.Image:
    """Put images on one sheet: a row for each array (n, side, side, 3)."""
    shown = [tiles(row) for row in rows]
    side = shown[0].shape[1]
    page = Image.new("RGB", (COLUMNS * side, len(rows) * side), "white")
    for y, row in enumerate(shown):
        for x, tile in enumerate(row):
            page.paste(Image.fromarray(tile), (x * side, y * side))
    return page


def webp(image: Image.Image) -> bytes:
    """An image as a WebP file that loses nothing."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()
