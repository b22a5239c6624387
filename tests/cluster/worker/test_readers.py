"""The readers that turn an input's bytes into an item's content."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.inputs.images import Limits, Rejection
from cluster.worker.readers import DocumentReader, ImageReader
from tests.support.mean_colour import paint


def test_an_image_counts_its_pixels(tmp_path: Path) -> None:
    reader = ImageReader(Limits())
    try:
        content = reader.read(paint(tmp_path, "a.png", (10, 20, 30)).read_bytes())
        assert content.value.getpixel((0, 0)) == (10, 20, 30)
        assert content.pixels == content.value.width * content.value.height
        assert content.columns == {}
        with pytest.raises(Rejection):
            reader.read(b"no image")
    finally:
        reader.close()


def test_a_document_is_a_json_object() -> None:
    reader = DocumentReader(Limits())
    assert reader.read(b'{"to": 3}').value == {"to": 3}
    for data in (b"[1, 2]", b"{", b"", b"\xff"):
        with pytest.raises(Rejection) as caught:
            reader.read(data)
        assert caught.value.reason_code == "corrupt"
