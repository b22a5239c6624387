from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, features
from PIL.TiffImagePlugin import OPEN_INFO

from cluster.inputs.images import EXTENSIONS, FORMATS, NOTE, Limits, Rejection, decode
from tests.support.hostile import write_good, write_hostile
from tests.support.image_bytes import noise, png, profile, rows, saved, tiff

NOISE = noise()
CODES = {"empty", "not-an-image", "too-large", "too-small", "truncated", "corrupt", "unsupported"}


def rejected(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Rejection) as caught:
        decode(data, limits or Limits())
    assert caught.value.message and "\n" not in caught.value.message
    return caught.value.reason_code


def pixel(image: Image.Image) -> tuple[int, ...]:
    assert image.mode == "RGB"
    return tuple(int(v) for v in np.asarray(image)[0, 0])


def test_formats_are_those_of_this_pillow() -> None:
    assert ("AVIF" in FORMATS) == (".avif" in EXTENSIONS) == bool(features.check("avif"))
    assert {"JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"} <= set(FORMATS)


def test_hostile_files_are_rejected_with_their_code(tmp_path: Path) -> None:
    expected = write_hostile(tmp_path)
    assert len(expected) >= 60 and set(expected.values()) == CODES
    assert {name: rejected((tmp_path / name).read_bytes()) for name in expected} == expected
    on_disk = sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir())
    assert on_disk < 20e6


def test_unusual_files_are_images(tmp_path: Path) -> None:
    for name in write_good(tmp_path):
        decoded = decode((tmp_path / name).read_bytes())
        noted = {NOTE} if name.startswith("no-end") else set()
        assert (decoded.mode, set(decoded.info)) == ("RGB", noted), name


@pytest.mark.parametrize("form", FORMATS)
def test_every_format(form: str) -> None:
    decoded = decode(saved(NOISE, form))
    assert decoded.mode == "RGB" and decoded.size == (60, 40)


@pytest.mark.parametrize("form", FORMATS)
def test_a_shortened_file_is_truncated(form: str) -> None:
    data = saved(NOISE, form)
    assert rejected(data[: len(data) // 2]) in ("truncated", "corrupt")


@pytest.mark.parametrize("form", sorted({"JPEG", "PNG", "BMP", "WEBP", "AVIF", "HEIF"} & set(FORMATS)))
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.95])
def test_plain_truncation_has_its_code(form: str, kept: float) -> None:
    data = saved(NOISE, form)
    assert rejected(data[: int(len(data) * kept)]) == "truncated"


def test_a_shortened_header_is_truncated() -> None:
    assert rejected(saved(NOISE, "PNG")[:12]) == "truncated"


def test_files_that_are_not_images() -> None:
    assert rejected(b"") == "empty"
    assert rejected(b"a text that was renamed .png") == "not-an-image"
    assert rejected(np.random.default_rng(3).bytes(4096)) == "not-an-image"


def test_sizes() -> None:
    assert rejected(saved(Image.new("RGB", (1, 1)), "PNG")) == "too-small"
    assert rejected(saved(Image.new("RGB", (300, 1)), "PNG")) == "too-small"
    assert rejected(saved(NOISE, "PNG"), Limits(pixels=2399)) == "too-large"
    assert rejected(saved(NOISE, "PNG"), Limits(bytes=100)) == "too-large"
    assert decode(saved(NOISE, "PNG"), Limits(pixels=2400)).size == (60, 40)


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


def test_sixteen_bits_with_further_tags() -> None:
    keyed = png(4, 4, (b"tRNS", b"\1\1"), rows(4, b"\1\1\1\2" * 2), depth=16, colour=0)
    assert np.asarray(decode(keyed))[0, :2, 0].tolist() == [255, 1]
    colour = png(4, 4, rows(4, b"\x80\xff\x40\xff\x20\xff" * 4), depth=16)
    assert pixel(decode(colour)) == (128, 64, 32)
    assert pixel(decode(tiff(b"\x80\x08\x00" * 8, bits=12))) == (128, 128, 128)
    assert pixel(decode(tiff(b"\0\x40" * 16, bits=16, photometric=0))) == (191, 191, 191)
    assert pixel(decode(tiff(b"\xff\x80" * 48, bits=(16,) * 3, photometric=2, samples=3))) == (128, 128, 128)


@pytest.mark.skipif("La" not in {mode for mode, _ in OPEN_INFO.values()}, reason="Pillow 12 does not read it")
def test_premultiplied_grey() -> None:
    half = tiff(b"\x40\x80" * 16, bits=(8, 8), samples=2, extra=1)
    assert 185 <= pixel(decode(half))[0] <= 195


def upright(turned: np.ndarray, orientation: int) -> np.ndarray:
    """The picture by EXIF's definition of where row 0 and column 0 are."""
    ways = {1: turned, 2: turned[:, ::-1], 3: turned[::-1, ::-1], 4: turned[::-1]}
    ways |= {5: turned.swapaxes(0, 1), 6: np.rot90(turned, -1), 8: np.rot90(turned)}
    return ways.get(orientation, turned[::-1, ::-1].swapaxes(0, 1))


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in ("BMP", "GIF")])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(form: str, orientation: int) -> None:
    corner = Image.new("RGB", (32, 16))
    corner.paste("white", (0, 0, 8, 4))
    exif = Image.Exif()
    exif[274] = orientation
    decoded = np.asarray(decode(saved(corner, form, exif=exif))).astype(int)
    expected = upright(np.asarray(corner), orientation).astype(int)
    assert decoded.shape == expected.shape and np.abs(decoded - expected).mean() < 10


def test_damaged_exif_is_ignored() -> None:
    for exif in (
        b"Exif\0\0" + b"junk" * 20,
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    ):
        assert decode(saved(NOISE, "JPEG", exif=exif)).size == (60, 40)


def test_a_profile_defines_the_colours() -> None:
    light = (np.asarray(NOISE) / 255.0)[..., [1, 0, 2]] ** 2
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    for form in ("PNG", "TIFF"):
        decoded = decode(saved(NOISE, form, icc_profile=profile("RGB")))
        assert np.abs(np.asarray(decoded) - expected).max() < 3
        assert not decoded.info
    assert pixel(decode(saved(Image.new("L", (4, 4), 128), "PNG", icc_profile=profile("GRAY")))) == (188,) * 3
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    for form in ("JPEG", "TIFF"):
        red, green, blue = pixel(decode(saved(cyan, form, icc_profile=profile("CMYK"))))
        assert red > 240 and green < 20 and blue < 20
        assert pixel(decode(saved(cyan, form)))[0] < 20


def test_a_profile_does_not_change_alpha() -> None:
    red = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert pixel(decode(saved(red, "PNG", icc_profile=profile("RGB")))) == (127, 255, 127)
    grey = Image.new("LA", (4, 4), (128, 0))
    assert pixel(decode(saved(grey, "PNG", icc_profile=profile("GRAY")))) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0])
    assert pixel(decode(saved(palette, "PNG", icc_profile=profile("RGB")))) == (0, 255, 0)


def test_profiles_that_change_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    whole = profile("RGB")
    damaged = [b"", b"junk" * 50, whole[:200], whole[:-100] + b"\xff" * 100, bytes(400), b"\xff" * 400]
    unfitting = [profile("GRAY"), profile("CMYK"), whole[:12] + b"link" + whole[16:], bytes(17 * 2**20)]
    for icc in [srgb, *damaged, *unfitting]:
        data = saved(NOISE, "TIFF", icc_profile=icc)
        assert decode(data).tobytes() == NOISE.tobytes(), icc[:40]
    assert (
        decode(saved(noise("L"), "PNG", icc_profile=whole)).tobytes() == noise("L").convert("RGB").tobytes()
    )


BOMB = zlib.compress(bytes(2**25))
SPARED = {
    "empty profile": (b"iCCP", b""),
    "profile without an end of its name": (b"iCCP", b"a"),
    "profile by another method": (b"iCCP", b"a\0\1x"),
    "large profile": (b"iCCP", b"a\0\0" + BOMB),
    "large text": (b"zTXt", b"a\0\0" + BOMB),
    "large international text": (b"iTXt", b"a\0\1\0\0\0" + BOMB),
    "text by another method": (b"zTXt", b"a\0\1x"),
}


@pytest.mark.parametrize("name", SPARED)
@pytest.mark.parametrize("behind", [False, True])
def test_damaged_profiles_and_texts_of_a_png_are_ignored(name: str, behind: bool) -> None:
    pixels = rows(4, bytes(range(12)))
    chunks = (pixels, SPARED[name]) if behind else (SPARED[name], pixels)
    assert decode(png(4, 4, *chunks)).tobytes() == decode(png(4, 4, pixels)).tobytes()
    assert rejected(png(4, 4, *chunks), Limits(pixels=15)) == "too-large"


def test_an_ignored_text_leaves_the_profile() -> None:
    whole = saved(NOISE, "PNG", icc_profile=profile("RGB"))
    text = png(4, 4, SPARED["large text"])[33:-12]
    assert decode(whole[:33] + text + whole[33:]).tobytes() == decode(whole).tobytes()


@pytest.mark.parametrize("palette", [[], [(b"PLTE", b"")]])
def test_a_png_without_its_palette(palette: list[tuple[bytes, bytes]]) -> None:
    assert rejected(png(4, 4, *palette, rows(4, bytes(4)), colour=3)) == "corrupt"


def test_first_frame_of_several() -> None:
    frames = [Image.new("RGB", (4, 4), c) for c in ("blue", "red")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel(decode(data)) == (0, 0, 255)


@given(st.sampled_from(FORMATS), st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_damage_raises_only_rejections(form: str, where: int, junk: bytes) -> None:
    data = bytearray(saved(NOISE, form))
    where %= len(data)
    data[where : where + len(junk)] = junk
    try:
        assert decode(bytes(data)).mode == "RGB"
    except Rejection as rejection:
        assert rejection.reason_code
