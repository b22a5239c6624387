from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cluster.images import FORMATS, Limits, Rejection, decode

RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 255, (40, 60, 3), dtype=np.uint8))


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def rejected(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Rejection) as caught:
        decode(data, limits or Limits())
    assert caught.value.message and "\n" not in caught.value.message
    return caught.value.reason_code


def pixel(image: Image.Image) -> tuple[int, ...]:
    assert image.mode == "RGB"
    return tuple(int(v) for v in np.asarray(image)[0, 0])


@pytest.mark.parametrize("form", FORMATS)
def test_every_format(form: str) -> None:
    decoded = decode(saved(NOISE, form))
    assert decoded.mode == "RGB" and decoded.size == (60, 40)


@pytest.mark.parametrize("form", FORMATS)
def test_cut_short_is_truncated(form: str) -> None:
    data = saved(NOISE, form)
    assert rejected(data[: len(data) // 2]) in ("truncated", "corrupt")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.95])
def test_plain_truncation_has_its_code(form: str, kept: float) -> None:
    data = saved(NOISE, form)
    assert rejected(data[: int(len(data) * kept)]) == "truncated"


def test_a_cut_header_is_truncated() -> None:
    assert rejected(saved(NOISE, "PNG")[:12]) == "truncated"


def test_what_is_no_image() -> None:
    assert rejected(b"") == "empty"
    assert rejected(b"a text that was renamed .png") == "not-an-image"
    assert rejected(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == "not-an-image"
    assert rejected(saved(NOISE, "PPM")) == "not-an-image"


def test_sizes() -> None:
    assert rejected(saved(Image.new("RGB", (1, 1)), "PNG")) == "too-small"
    assert rejected(saved(Image.new("RGB", (300, 1)), "PNG")) == "too-small"
    assert rejected(saved(NOISE, "PNG"), Limits(pixels=2399)) == "too-large"
    assert rejected(saved(NOISE, "PNG"), Limits(bytes=100)) == "too-large"
    assert decode(saved(NOISE, "PNG"), Limits(pixels=2400)).size == (60, 40)


@pytest.mark.parametrize("side", [9_500, 30_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert rejected(data) == "too-large"


def test_transparency_is_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert pixel(decode(saved(clear, "PNG"))) == (255, 255, 255)
    half = Image.new("LA", (4, 4), (0, 128))
    assert 120 <= pixel(decode(saved(half, "PNG")))[0] <= 135
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert pixel(decode(saved(palette, "PNG"))) == (10, 20, 30)
    assert pixel(decode(saved(palette, "PNG", transparency=1))) == (255, 255, 255)
    keyed = Image.new("RGB", (4, 4), (9, 9, 9))
    assert pixel(decode(saved(keyed, "PNG", transparency=(9, 9, 9)))) == (255, 255, 255)


def test_cmyk_and_sixteen_bits() -> None:
    assert pixel(decode(saved(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "TIFF")))[0] > 250
    assert pixel(decode(saved(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "JPEG")))[0] > 250
    deep = Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16))
    for form in ("PNG", "TIFF"):
        assert pixel(decode(saved(deep, form))) == (128, 128, 128)
    assert rejected(saved(Image.new("F", (4, 4), 0.5), "TIFF")) == "unsupported"
    assert rejected(saved(Image.new("I", (4, 4), 1 << 20), "TIFF")) == "unsupported"


def test_exif_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(saved(NOISE, "JPEG", exif=exif)).size == (40, 60)


def test_first_frame_of_several() -> None:
    frames = [Image.new("RGB", (4, 4), c) for c in ("blue", "red")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel(decode(data)) == (0, 0, 255)


@settings(deadline=None)
@given(st.sampled_from(FORMATS), st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_damage_never_gets_out(form: str, where: int, junk: bytes) -> None:
    data = bytearray(saved(NOISE, form))
    where %= len(data)
    data[where : where + len(junk)] = junk
    try:
        assert decode(bytes(data)).mode == "RGB"
    except Rejection as rejection:
        assert rejection.reason_code
