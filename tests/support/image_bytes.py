"""Image files built byte by byte, which no library would write."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

TIFF_TAGS = {
    "width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "strip": 273,
    "samples": 277, "strip_bytes": 279, "extra": 338, "sample_format": 339, "exif": 34665, "icc": 34675,
}  # fmt: skip


def noise(mode: str = "RGB", width: int = 60, height: int = 40) -> Image.Image:
    if mode in ("1", "P"):
        return noise("L", width, height).convert(mode)
    shape = (height, width, len(Image.new(mode, (1, 1)).getbands()))
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Image.frombytes(mode, (width, height), values.tobytes())


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    every = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in every
    )


def rows(count: int, row: bytes) -> tuple[bytes, bytes]:
    """The pixel chunk of a PNG: the same unfiltered row repeated."""
    return b"IDAT", zlib.compress((b"\0" + row) * count)


def tiff(body: bytes, next_directory: int = 0, **tags: int | tuple[int, ...] | bytes) -> bytes:
    """A little-endian TIFF: header, directory, long values, and the body as its only strip."""
    usual = {"width": 4, "height": 4, "bits": 8, "compression": 1, "photometric": 1, "samples": 1}
    given = {**usual, "strip": 0, "strip_bytes": len(body), **tags}
    values = {TIFF_TAGS[name]: value for name, value in given.items()}
    long_values = 8 + 2 + 12 * len(values) + 4
    directory, extra = b"", b""
    for tag, value in sorted(values.items()):
        if isinstance(value, int):
            value = (value,)
        kind, packed = (7, value) if isinstance(value, bytes) else (4, struct.pack(f"<{len(value)}I", *value))
        count = len(value)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", long_values + len(extra)), extra + packed
        directory += struct.pack("<HHI4s", tag, kind, count, packed)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(values))
    data = head + directory + struct.pack("<I", next_directory) + extra
    if "strip" not in tags:
        at = data.index(struct.pack("<HHII", TIFF_TAGS["strip"], 4, 1, 0)) + 8
        data = data[:at] + struct.pack("<I", len(data)) + data[at + 4 :]
    return data + body


def bmp(width: int, height: int, bits: int = 24, compression: int = 0, header: int = 40) -> bytes:
    info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, 64, 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + 64, 0, 0, 54) + info + bytes(64)


def profile(space: str) -> bytes:
    """An ICC profile with an obvious effect. RGB: red and green are swapped. GRAY: values are linear light.
    CMYK: cyan ink is red."""

    def numbers(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    def gamma(exponent: int) -> bytes:
        return b"curv\0\0\0\0" + struct.pack(">IHH", 1, exponent * 256, 0)

    tags = {b"wtpt": b"XYZ \0\0\0\0" + numbers(0.9642, 1, 0.8249)}
    kind, connection = b"mntr", b"XYZ "
    if space == "RGB":
        green, red, blue = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
        for letter, primary in (b"r", red), (b"g", green), (b"b", blue):
            tags |= {letter + b"XYZ": b"XYZ \0\0\0\0" + numbers(*primary), letter + b"TRC": gamma(2)}
    elif space == "GRAY":
        tags[b"kTRC"] = gamma(1)
    else:
        kind, connection = b"prtr", b"Lab "
        inks = itertools.product((0, 1), repeat=4)
        lab = [(0, 128, 128) if k else (136, 208, 195) if c else (255, 128, 128) for c, _, _, k in inks]
        straight = bytes(range(256))
        matrix = numbers(1, 0, 0, 0, 1, 0, 0, 0, 1)
        nodes = bytes(itertools.chain.from_iterable(lab))
        tags[b"A2B0"] = b"mft1\0\0\0\0\4\3\2\0" + matrix + straight * 4 + nodes + straight * 3
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    what = (start + len(body), 0x02400000, kind, space.encode().ljust(4), connection, b"acsp")
    head = struct.pack(">I4xI4s4s4s12x4s", *what)
    return (head + bytes(28) + numbers(0.9642, 1, 0.8249)).ljust(128, b"\0") + table + body
