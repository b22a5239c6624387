"""Sheets of redraws (``redraws.webp``): a row for each number of tokens tried. Its format is known to this
module alone."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

COLUMNS = 8
"""Most images in a row of a sheet, and its width in tiles: a shorter row ends in white."""

TILE = 192
"""Largest side of an image on a sheet, in pixels."""


def tiles(images: np.ndarray) -> np.ndarray:
    """The first COLUMNS images, shrunk to at most TILE pixels: uint8 (n, side, side, 3) in and out.

    Idempotent: the tiles of tiles are the same, so that a sheet may be built from what a snapshot holds.
    """
    side = min(TILE, images.shape[1])
    shown = [Image.fromarray(i).resize((side, side), Image.Resampling.LANCZOS) for i in images[:COLUMNS]]
    return np.stack([np.asarray(i) for i in shown])


def sheet(rows: Sequence[np.ndarray]) -> Image.Image:
    """Images on one sheet: a row for each array, uint8 (n, side, side, 3), all of the same side."""
    shown = [tiles(row) for row in rows]
    side = shown[0].shape[1]
    page = Image.new("RGB", (COLUMNS * side, len(rows) * side), "white")
    for y, row in enumerate(shown):
        for x, tile in enumerate(row):
            page.paste(Image.fromarray(tile), (x * side, y * side))
    return page


def webp(image: Image.Image) -> bytes:
    """An image as a lossless WebP file."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


class RedrawSheet:
    """A sheet that was read back, cut into its images."""

    def __init__(self, page: Image.Image) -> None:
        """``page``: what :func:`sheet` made."""
        self._page = page
        self.side = page.width // COLUMNS
        """Width and height of an image, in pixels."""
        self.rows = page.height // self.side if self.side else 0

    def tile(self, row: int, column: int) -> Image.Image:
        """One image; rows and columns count from 0."""
        return self._cut(row, column, 1)

    def strip(self, row: int, redraws: int) -> Image.Image | None:
        """The images of a row side by side; None if there are none.

        Args:
            redraws: how many images the row was made of. Without it, the white end of a row would look like
                images.
        """
        count = min(COLUMNS, redraws)
        return self._cut(row, 0, count) if count and row < self.rows else None

    def _cut(self, row: int, column: int, count: int) -> Image.Image:
        side = self.side
        return self._page.crop((column * side, row * side, (column + count) * side, (row + 1) * side))
