"""Sheets of redraws: what is written is read back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from originality.evaluation.redraw_sheet import COLUMNS, TILE, RedrawSheet, sheet, tiles, webp


@pytest.fixture(scope="module")
def rows() -> list[np.ndarray]:
    """Twenty, three and one images of 300 x 300 pixels of noise."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (count, 300, 300, 3), np.uint8) for count in (20, 3, 1)]


def test_a_sheet_of_tiles_equals_the_sheet_of_the_images(rows):
    small = [tiles(row) for row in rows]
    assert [row.shape for row in small] == [(count, TILE, TILE, 3) for count in (COLUMNS, 3, 1)]
    assert (np.asarray(sheet(small)) == np.asarray(sheet(rows))).all()


def test_a_sheet_is_read_back_image_by_image(rows):
    read = RedrawSheet(Image.open(io.BytesIO(webp(sheet(rows)))).convert("RGB"))
    assert (read.side, read.rows) == (TILE, 3)
    for number, row in enumerate(map(tiles, rows)):
        for column, image in enumerate(row):
            assert (np.asarray(read.tile(number, column)) == image).all()
        strip = read.strip(number, len(rows[number]))
        assert (np.asarray(strip) == np.concatenate(row, axis=1)).all()


def test_no_strip_is_cut_from_a_row_without_redraws_or_off_the_sheet(rows):
    read = RedrawSheet(sheet(rows))
    assert read.strip(0, 0) is None
    assert read.strip(3, 8) is None
    assert RedrawSheet(Image.new("RGB", (4, 4))).strip(0, 8) is None
