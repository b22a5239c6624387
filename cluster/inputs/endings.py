"""Files that lack only their end: a JPEG without its end marker, a PNG or GIF without its last block.

Pillow accepts such a PNG or GIF without a word. It refuses such a JPEG, because it cannot tell it from one
that lacks rows; the functions below can. Of WebP and AVIF they tell, by the lengths written in them, whether
a file that cannot be decoded was cut.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""In a scan of a JPEG; what is left out are stuffed bytes and restart markers."""
_BOX = re.compile(rb"[\s\S]{4}[a-zA-Z0-9 ]{4}")
"""Size and kind of a box."""
_FRAMES = (0xC0, 0xC1, 0xC2)
"""Start of frame: baseline, extended and progressive. libjpeg reads few others."""
_SCAN, _RESTART_INTERVAL, _END = 0xDA, 0xDD, 0xD9
_COEFFICIENTS = 64

_FILLER_BYTES = 4096
"""Enough for any block that may be missing to come out differently."""
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")


def lacks_end(data: bytes) -> bool:
    """Whether a JPEG, PNG or GIF ends before its end marker; False for a file too damaged to tell."""
    if data.startswith(b"\x89PNG"):
        return _PNG_END not in data
    if data.startswith(b"GIF8"):
        return not data.endswith(b";") and not _gif_ends(data)
    if data.startswith(b"\xff\xd8\xff"):
        return not data.endswith(_JPEG_END) and _jpeg_lacks_end(data)
    return False


def cut_short(data: bytes) -> bool:
    """Whether a WebP, or a file in boxes (ISO 14496-12) as AVIF and HEIF are, is shorter than it says."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return data[4:8] == b"ftyp" and _boxes_end(data) > len(data)


def _boxes_end(data: bytes) -> int:
    """Where the last box that begins in a file ends; what follows sound boxes may be anything."""
    at = 0
    while _BOX.match(data, at):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:  # it is written behind the kind
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # 0: up to the file's end
            break
        at += size
    return at


def completed(data: bytes) -> list[bytes]:
    """A JPEG without an end marker, completed in several ways. If all decode to the same picture, the file
    holds all of it: a missing block would be read from the bytes that differ. Empty if whole scans are
    missing."""
    if not _all_scans_there(data):
        return []
    fillers = [b"", *(bytes((value,)) * _FILLER_BYTES for value in (0x00, 0x55, 0xAA))]
    if bytes((0xFF, _RESTART_INTERVAL)) in data:
        fillers.append(_intervals(data))
    return [data.rstrip(b"\xff") + filler + _JPEG_END for filler in fillers]


def _intervals(data: bytes) -> bytes:
    """Restart markers in turn with bytes between: where data end just before the next one, libjpeg would skip
    bytes without it."""
    found = _RESTART.findall(data, data.rindex(bytes((0xFF, _SCAN))))
    following = found[-1][0] + 1 if found else 0
    return b"".join(bytes((0xFF, 0xD0 + (following + i) % 8)) + b"\x55" * 64 for i in range(64))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and contents of a JPEG, up to its end or the file's.

    Raises:
        ValueError: what follows a segment is no marker.
    """
    at = 2
    while at < len(data):
        if data[at] != 0xFF:
            raise ValueError("no marker")
        while data[at : at + 1] == b"\xff":
            at += 1
        if at >= len(data):
            return
        marker = data[at]
        if marker == _END:
            yield marker, b""
            return
        size = int.from_bytes(data[at + 1 : at + 3], "big")
        if size < 2:
            raise ValueError("no segment")
        yield marker, data[at + 3 : at + 1 + size]
        at += 1 + size
        if marker == _SCAN:
            following = _MARKER.search(data, at)
            at = following.start() if following else len(data)


def _jpeg_lacks_end(data: bytes) -> bool:
    """In a scan, that is; what ends before has no picture."""
    last = None
    try:
        for marker, _ in _segments(data):
            last = marker
    except ValueError:
        return False
    return last == _SCAN


def _all_scans_there(data: bytes) -> bool:
    """Whether the scans bring every coefficient of every component to its last bit."""
    components: list[int] = []
    low_bits: defaultdict[int, list[int]] = defaultdict(lambda: [-1] * _COEFFICIENTS)
    for marker, content in _segments(data):
        if marker in _FRAMES and len(content) >= 6:
            components = [content[6 + 3 * i] for i in range(min(content[5], (len(content) - 6) // 3))]
        if marker == _SCAN and len(content) >= 6:
            named = [content[1 + 2 * i] for i in range(min(content[0], (len(content) - 4) // 2))]
            first, last, bits = content[-3:]
            for component in named:
                for coefficient in range(first, min(last, _COEFFICIENTS - 1) + 1):
                    low_bits[component][coefficient] = bits & 15
    return bool(components) and all(low_bits[component] == [0] * _COEFFICIENTS for component in components)


def _gif_ends(data: bytes) -> bool:
    """Whether the last block is followed by the trailer; anything may follow that."""
    at = 13 + _palette_bytes(data[10:11])
    while at < len(data):
        kind = data[at]
        if kind == 0x3B:
            return True
        if kind not in (0x21, 0x2C):
            return True  # not sound: nothing is said
        at += 2 if kind == 0x21 else 11 + _palette_bytes(data[at + 9 : at + 10])
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return False


def _palette_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
