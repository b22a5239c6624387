"""Files that a collection from strangers may contain.

Hostile files, each with its reason code, and unusual ones that are valid images. The bytes are the same in
every run.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cluster.inputs.images import FORMATS, Limits
from tests.support.image_bytes import TIFF_TAGS, bmp, noise, png, profile, rows, saved, tiff


def write_hostile(folder: Path) -> dict[str, str]:
    """Write the hostile files; returns the reason code of each by file name."""
    expected = {}
    parts = (_renamed(), _foreign(), _sizes(), _cut(), _damaged(), _unreadable(), _names())
    for name, code, data in itertools.chain(*parts):
        assert name not in expected
        (folder / name).write_bytes(data)
        expected[name] = code
    with (folder / "one-byte-too-many.jpg").open("wb") as sparse:
        sparse.truncate(Limits().bytes + 1)
    return {**expected, "one-byte-too-many.jpg": "too-large"}


def write_good(folder: Path) -> list[str]:
    """Write the unusual but valid images; returns their names."""
    names = []
    for name, data in _good():
        assert name not in names
        (folder / name).write_bytes(data)
        names.append(name)
    return names


def _renamed() -> Iterator[tuple[str, str, bytes]]:
    """Files that are not images, with an image's extension."""
    others = {
        "text.png": b"a text that was renamed",
        "bmx.tif": b"II is a roman numeral, and MM another",
        "page.jpg": b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>",
        "billion-laughs.webp": b"<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><svg>&b;</svg>",
        "archive.png": b"PK\3\4" + bytes(26) + b"PK\5\6" + bytes(18),
        "gzip.bmp": b"\x1f\x8b\x08\0" + bytes(16),
        "program.gif": b"\x7fELF\2\1\1" + bytes(57),
        "windows.bmp": b"MZ\x90\0" + bytes(60),
        "settings.webp": b'{"image": "iVBORw0KGgo="}',
        "wide.bmp": "not an image".encode("utf-16"),
        "sound.webp": b"RIFF\x24\0\0\0WAVEfmt " + bytes(28),
        "pickle.png": b"\x80\4\x95\x1e\0\0\0\0\0\0\0\x8c\5posix\x8c\6system\x93\x94\x8c\2id\x85R.",
        "zeros.jpg": bytes(4096),
        "ones.png": b"\xff" * 4096,
        "noise.tif": np.random.default_rng(1).bytes(4096),
        "newline.png": b"\n",
        "base64.png": b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
    }
    for name, data in others.items():
        yield name, "not-an-image", data
    yield "empty.png", "empty", b""
    yield "empty.jpg", "empty", b""


def _foreign() -> Iterator[tuple[str, str, bytes]]:
    """Valid files of formats that are recognised but not decoded, with wrong extensions."""
    others = {
        "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        "document.jpeg": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "postscript.tiff": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "film.jpg": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(40),
        "apple.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40),
        "layers.tif": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(60),
    }
    for name, data in others.items():
        yield name, "unsupported", data
    for form in ("ICO", "PPM", "TGA", "JPEG2000", "PCX", "ICNS"):
        yield f"{form}.png", "unsupported", saved(noise(), form)


def _sizes() -> Iterator[tuple[str, str, bytes]]:
    """Headers that announce too many pixels, which the file does not contain, or too few."""
    for form in FORMATS:
        yield f"dot.{_extension(form)}", "too-small", saved(noise(width=1, height=1), form)
    yield "line.png", "too-small", saved(noise(width=300, height=1), "PNG")
    yield "pole.bmp", "too-small", saved(noise(width=1, height=300), "BMP")
    yield "hair.jpg", "too-small", saved(noise(width=1, height=300), "JPEG")

    wide = struct.pack(">HH", 65500, 65500)
    jpeg = saved(noise(), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    webp = saved(noise(), "WEBP", lossless=True)
    yield "bomb.jpg", "too-large", jpeg[:frame] + wide + jpeg[frame + 4 :]
    yield "bomb.gif", "too-large", b"GIF89a\xff\xff\xff\xff\0\0\0," + bytes(4) + b"\xff" * 4 + b"\0\2\1\0\0;"
    yield "bomb.webp", "too-large", webp[:21] + struct.pack("<I", 9499 | 9499 << 14) + webp[25:]
    yield "bomb.tif", "too-large", tiff(bytes(16), width=100_000, height=100_000)
    yield "giant.tif", "too-large", tiff(bytes(16), width=2**31 - 1, height=2**31 - 1)
    yield "bomb.bmp", "too-large", bmp(30_000, 30_000)
    yield "upside-down.bmp", "too-large", bmp(30_000, -30_000)
    yield "negative.bmp", "too-large", bmp(-2, 30_000)
    if "AVIF" in FORMATS:
        avif = saved(noise(), "AVIF")
        size = avif.index(b"ispe") + 8
        yield "bomb.avif", "too-large", avif[:size] + struct.pack(">II", 10_000, 10_000) + avif[size + 8 :]
    for side in (9_000, 20_000, 2**31 - 1):
        yield f"bomb-{side}.png", "too-large", png(side, side, rows(40, bytes(300)))
    yield "one-pixel-too-many.png", "too-large", png(80_000_001, 1, rows(1, bytes(300)))
    yield "row.png", "too-large", png(2**31 - 1, 2, rows(2, bytes(300)))


def _cut() -> Iterator[tuple[str, str, bytes]]:
    """Truncated images."""
    for form in ("JPEG", "PNG", "BMP", "GIF", "TIFF"):
        whole = saved(noise(), form)
        for percent in (30, 60, 90) if form != "GIF" else (40, 60, 90):
            data = whole[: len(whole) * percent // 100]
            yield f"cut-at-{percent}.{_extension(form)}", "truncated", data
        yield f"cut-in-header.{_extension(form)}", "truncated", whole[:30]
    progressive = saved(noise(), "JPEG", progressive=True)
    yield "cut-progressive.jpg", "truncated", progressive[: len(progressive) * 7 // 10]
    webp = saved(noise(), "WEBP")
    yield "cut.webp", "truncated", webp[: len(webp) // 2]
    yield "last-byte.webp", "truncated", webp[:-1]
    if "AVIF" in FORMATS:
        avif = saved(noise(), "AVIF")
        yield "cut.avif", "truncated", avif[:-100]
        yield "half.avif", "truncated", avif[: len(avif) // 2]
    yield "signature.jpg", "truncated", b"\xff\xd8\xff"
    yield "signature.png", "truncated", b"\x89PNG\r\n\x1a\n"
    yield "signature.gif", "truncated", b"GIF89a"
    yield "signature.tif", "truncated", b"II*\0"
    yield "signature.bmp", "truncated", b"BM"
    yield "no-frames.gif", "truncated", b"GIF89a\4\0\4\0\0\0\0;"
    yield "far-strip.tif", "truncated", tiff(bytes(16), strip=2**31)
    yield "far-directory.tif", "corrupt", b"II*\0" + struct.pack("<I", 2**31) + bytes(200)


def _damaged() -> Iterator[tuple[str, str, bytes]]:
    whole = saved(noise(), "PNG")
    yield "header-checksum.png", "corrupt", whole[:29] + b"\0\0\0\0" + whole[33:]
    yield "no-pixels.png", "corrupt", png(4, 4, (b"tEXt", b"Title\0" + b"x" * 64))
    yield "not-zipped.png", "corrupt", png(4, 4, (b"IDAT", b"no zlib stream at all, by any means" * 3))
    yield "no-palette.png", "corrupt", png(4, 4, rows(4, bytes(4)), colour=3)
    yield "no-columns.png", "corrupt", png(0, 4, rows(4, bytes(64)))
    yield "no-such-colour.png", "corrupt", png(4, 4, rows(4, bytes(64)), colour=5)
    yield "no-rows.bmp", "corrupt", bmp(4, 0)
    yield "header-of-77.bmp", "corrupt", bmp(4, 4, header=77)
    yield "no-width.tif", "corrupt", tiff(bytes(64), width=0)
    circle = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, TIFF_TAGS["exif"], 4, 1, 8, 8)
    yield "circle.tif", "corrupt", circle + bytes(200)
    yield "not-lzw.tif", "corrupt", tiff(b"no LZW stream at all, by any means" * 4, compression=5)
    yield "not-deflate.tif", "corrupt", tiff(b"no zlib stream at all, by any means" * 4, compression=8)
    yield "not-jpeg.tif", "corrupt", tiff(b"no JPEG stream at all, by any means" * 4, compression=7)
    yield (
        "markers.jpg",
        "corrupt",
        b"\xff\xd8" + (b"\xff\xfe\0\x20" + bytes(30)) * 4 + b"\xff\xda\0\2\xff\xd9",
    )
    junk = np.random.default_rng(2).bytes(400)
    yield "junk.png", "corrupt", b"\x89PNG\r\n\x1a\n" + junk
    yield "junk.webp", "corrupt", b"RIFF" + struct.pack("<I", 408) + b"WEBPVP8 " + junk
    yield "junk.bmp", "truncated", b"BM" + junk
    yield "lossless-junk.webp", "corrupt", b"RIFF" + struct.pack("<I", 408) + b"WEBPVP8L" + junk
    if "AVIF" in FORMATS:
        yield "junk.avif", "corrupt", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + junk
    yield "script.gif", "truncated", b"GIF89a=1;alert(document.domain);//" + b" " * 100
    yield "shell.bmp", "truncated", b"BM=1\n#!/bin/sh\nrm -rf /nowhere\n" + b"#" * 100


def _unreadable() -> Iterator[tuple[str, str, bytes]]:
    """Valid files without an 8-bit picture, or of kinds that Pillow does not read."""
    yield "float.tif", "unsupported", saved(Image.new("F", (4, 4), 0.5), "TIFF")
    yield "deep.tif", "unsupported", saved(Image.new("I", (4, 4), 1 << 20), "TIFF")
    yield "negative.tif", "unsupported", saved(Image.new("I", (4, 4), -5), "TIFF")
    yield "double.tif", "unsupported", tiff(bytes(128), bits=64, sample_format=3, strip_bytes=128)
    yield "compressed.bmp", "unsupported", bmp(4, 4, compression=9)
    yield "three-bits.bmp", "unsupported", bmp(4, 4, bits=3)


def _names() -> Iterator[tuple[str, str, bytes]]:
    """File names that careless code fails on."""
    shell = (
        "-rf",
        "--out=x",
        "$(id)`id`",
        "*?[a]",
        "~",
        "back\\slash",
        "'; drop table; '",
        'quote"d',
        "a b  c ",
    )
    web = ("%2e%2e%2fup", "<script>alert(1)<", "&amp;", "#frag?query=1", "日本語 🎨", "e\u0301", "x" * 240)
    for stem in shell + web:
        yield f"{stem}.jpg", "not-an-image", b"a text under a name like " + stem.encode()


def _good() -> Iterator[tuple[str, bytes]]:
    modes = {
        "JPEG": ("L", "RGB", "CMYK"),
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
        "WEBP": ("RGB", "RGBA"),
        "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB"),
        "BMP": ("1", "L", "P", "RGB", "RGBA"),
        "GIF": ("L", "P", "RGBA"),
        "AVIF": ("L", "RGB", "RGBA"),
        "HEIF": ("L", "RGB", "RGBA"),
    }
    exif = Image.Exif()
    exif[274] = 6
    for form in FORMATS:
        end = _extension(form)
        for mode in modes[form]:
            yield f"{form}-{mode}.{end}", saved(noise(mode), form)
        yield f"tiny.{end}", saved(noise(width=2, height=2), form)
        if form not in ("BMP", "GIF"):
            yield f"turned.{end}", saved(noise(), form, exif=exif)
            yield f"tinted.{end}", saved(noise(), form, icc_profile=profile("RGB"))
            yield f"bad-profile.{end}", saved(noise(), form, icc_profile=b"no profile at all" * 20)
        if form not in ("BMP", "JPEG"):
            yield (
                f"frames.{end}",
                saved(noise(), form, save_all=True, append_images=[Image.new("RGB", (60, 40))]),
            )
    yield "no-end.jpg", saved(noise(), "JPEG")[:-2]
    yield "no-end.png", saved(noise(), "PNG")[:-12]
    yield "no-end.gif", saved(noise(), "GIF")[:-1]
    yield "inked.jpg", saved(noise("CMYK"), "JPEG", icc_profile=profile("CMYK"))
    yield "inked.tif", saved(noise("CMYK"), "TIFF", icc_profile=profile("CMYK"))
    yield "misfit.jpg", saved(noise("CMYK"), "JPEG", icc_profile=profile("RGB"))
    yield "light.png", saved(noise("L"), "PNG", icc_profile=profile("GRAY"))
    yield "progressive.jpg", saved(noise(), "JPEG", progressive=True)
    yield "a-jpeg.png", saved(noise(), "JPEG")
    yield "a-png.JPG", saved(noise(), "PNG")
    yield "archive-behind.jpg", saved(noise(), "JPEG") + b"PK\3\4" + bytes(100)
    yield "keyed.png", saved(noise(), "PNG", transparency=(9, 9, 9))
    yield "clear-colours.png", saved(noise("P"), "PNG", transparency=bytes(range(256)))
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield f"{compression}.tif", saved(noise(), "TIFF", compression=compression)
    deep = Image.fromarray(np.asarray(noise("L")).astype(np.uint16) * 257)
    yield "grey-16.png", saved(deep, "PNG")
    yield "grey-16.tif", saved(deep, "TIFF")
    yield "colour-16.png", png(4, 4, rows(4, bytes(range(24))), depth=16)
    yield "alpha-16.png", png(4, 4, rows(4, bytes(range(32))), depth=16, colour=6)
    yield "grey-alpha-16.png", png(4, 4, rows(4, bytes(range(16))), depth=16, colour=4)
    yield "keyed-16.png", png(4, 4, (b"tRNS", b"\1\1"), rows(4, bytes(8)), depth=16, colour=0)
    yield "interlaced.png", _interlaced()
    text = b"Title\0\0" + zlib.compress(bytes(2**25))
    yield "text-bomb.png", png(4, 4, (b"zTXt", text), rows(4, bytes(12)))
    yield "colour-16.tif", tiff(bytes(range(96)), bits=(16,) * 3, photometric=2, samples=3)
    yield "alpha-16.tif", tiff(bytes(range(128)), bits=(16,) * 4, photometric=2, samples=4, extra=2)
    yield "twelve-bits.tif", tiff(bytes(range(24)), bits=12)
    yield "white-is-zero.tif", tiff(bytes(range(32)), bits=16, photometric=0)
    yield "circle-behind.tif", tiff(bytes(range(16)), next_directory=8)
    yield "circle-in-exif.tif", tiff(bytes(range(16)), exif=8)
    yield "text-for-profile.tif", tiff(bytes(range(16)), icc=b"no profile either")
    yield "numbers-for-profile.tif", tiff(bytes(range(16)), icc=(1, 2, 3))


def _interlaced() -> bytes:
    """8 x 8 grey by Adam7, which Pillow does not write."""
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))  # width and rows
    data = b"".join((b"\0" + bytes(range(width))) * height for width, height in passes)
    plain = png(8, 8, (b"IDAT", zlib.compress(data)), colour=0)
    header = plain[12:28] + b"\1"
    return plain[:12] + header + struct.pack(">I", zlib.crc32(header)) + plain[33:]


def _extension(form: str) -> str:
    return {"JPEG": "jpg", "TIFF": "tif"}.get(form, form.lower())
