"""Removes chunks from a PNG."""

from __future__ import annotations

import re
from collections.abc import Collection

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FRAME_BYTES = 12
"""Bytes of each chunk besides its contents: length, kind and checksum."""
_KIND = re.compile(rb"[A-Za-z]{4}")
PROFILE = frozenset((b"iCCP",))
TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))


def without(data: bytes, kinds: Collection[bytes]) -> bytes | None:
    """A PNG without its chunks of these kinds, complete or truncated ones; None if it has none of them, or is
    not a PNG."""
    if not data.startswith(_SIGNATURE):
        return None
    kept = bytearray()
    copied = at = len(_SIGNATURE)
    while (found := _KIND.match(data, at + 4)) and found[0] != b"IEND":
        end = at + _FRAME_BYTES + int.from_bytes(data[at : at + 4], "big")
        if found[0] in kinds:
            kept += data[copied:at]
            copied = end
        at = end
    return None if copied == len(_SIGNATURE) else _SIGNATURE + bytes(kept) + data[copied:]
