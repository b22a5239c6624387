"""Truncated files: a JPEG without its end marker, a PNG or GIF without its last block.

Pillow accepts such a PNG or GIF silently. It refuses such a JPEG, because it cannot tell it from one that
lacks rows; the functions below can. For WebP and AVIF they tell, from the lengths written in them, whether a
file that cannot be decoded was truncated.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker behind a scan of a JPEG: stuffed bytes and restart markers belong to the scan."""
_BOX = re.compile(rb"[\s\S]{4}[a-zA-Z0-9 ]{4}")
"""Size and kind at the start of a box."""
_FRAMES = (0xC0, 0xC1, 0xC2)
"""Start of frame: baseline, extended, progressive. libjpeg reads few others."""
_SCAN, _RESTART_INTERVAL, _END = 0xDA, 0xDD, 0xD9
_COEFFICIENTS = 64

_FILLER_BYTES = 4096
"""Enough bytes for any missing block to be decoded differently from each filler."""
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
    """Whether a WebP, or a file in boxes (ISO 14496-12) such as AVIF and HEIF, is shorter than its header
    states."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return data[4:8] == b"ftyp" and _boxes_end(data) > len(data)


def _boxes_end(data: bytes) -> int:
    """The offset at which the last box that begins in the file ends. Behind valid boxes there may be
    anything."""
    at = 0
    while _BOX.match(data, at):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:  # a 64-bit size follows the kind
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # 0: the box extends to the end of the file
            break
        at += size
    return at


def completed(data: bytes) -> list[bytes]:
    """A JPEG without an end marker, completed in several ways; empty if complete scans are missing.

    If all of them decode to the same picture, the file contains all of it: a missing block would be decoded
    from the filler bytes, which differ.
    """
    if not _all_scans_there(data):
        return []
    fillers = [b"", *(bytes((value,)) * _FILLER_BYTES for value in (0x00, 0x55, 0xAA))]
    if bytes((0xFF, _RESTART_INTERVAL)) in data:
        fillers.append(_intervals(data))
    return [data.rstrip(b"\xff") + filler + _JPEG_END for filler in fillers]


def _intervals(data: bytes) -> bytes:
    """A filler of restart markers in order with bytes between them. If the data ends just before a restart
    marker, libjpeg would skip all filler bytes that do not begin with the expected one."""
    found = _RESTART.findall(data, data.rindex(bytes((0xFF, _SCAN))))
    following = found[-1][0] + 1 if found else 0
    return b"".join(bytes((0xFF, 0xD0 + (following + i) % 8)) + b"\x55" * 64 for i in range(64))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and contents of the segments of a JPEG, up to its end marker or the end of the file.

    Raises:
        ValueError: a segment is not followed by a marker.
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
    """Whether a JPEG ends within a scan. One that ends before its first scan has no picture."""
    last = None
    try:
        for marker, _ in _segments(data):
            last = marker
    except ValueError:
        return False
    return last == _SCAN


def _all_scans_there(data: bytes) -> bool:
    """Whether the scans contain every coefficient of every component, down to its last bit."""
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
    """Whether the last block of a GIF is followed by the trailer; anything may follow the trailer."""
    at = 13 + _palette_bytes(data[10:11])
    while at < len(data):
        kind = data[at]
        if kind == 0x3B:
            return True
        if kind not in (0x21, 0x2C):
            return True  # damaged otherwise: nothing can be said about its end
        at += 2 if kind == 0x21 else 11 + _palette_bytes(data[at + 9 : at + 10])
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return False


def _palette_bytes(flags: bytes) -> int:
    """Bytes of the palette that a GIF's flags announce."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
