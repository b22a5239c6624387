"""A checksum inside a file, for formats with key-value metadata (Parquet, safetensors): other programs read
the file as ever.

The value is written as zeros first, and covers every bit of the file beside itself.
"""

from __future__ import annotations

import hashlib

KEY = "originality.checksum"
"""Part of the file format, whatever this module is called: files written before must keep their checksums."""
_PREFIX = b"originality-sha256:"
_ZEROS = b"0" * 64
PLACEHOLDER = (_PREFIX + _ZEROS).decode()
"""The value under KEY before :func:`stamp`."""
_MOST_BETWEEN = 4
"""Bytes between key and value: the format's quotes, types and lengths."""


class Mismatch(ValueError):  # noqa: N818
    """What was read is not what was written."""

    def __init__(self) -> None:
        super().__init__("checksum mismatch")


def stamp(data: bytes) -> bytes:
    """A file written with PLACEHOLDER under KEY, with its checksum in that place."""
    start = data.rindex(_PREFIX + _ZEROS) + len(_PREFIX)
    return data[:start] + _digest(data, start) + data[start + len(_ZEROS) :]


def check(data: bytes) -> None:
    """Lets a file pass that is as :func:`stamp` made it, or that never had a checksum.

    Raises:
        Mismatch: it is damaged.
    """
    key, prefix = data.rfind(KEY.encode()), data.rfind(_PREFIX)
    if key < 0 and prefix < 0:
        return
    start = prefix + len(_PREFIX)
    beside = 0 <= prefix - key - len(KEY) <= _MOST_BETWEEN  # else one of the two is damaged
    if not (beside and data[start : start + len(_ZEROS)] == _digest(data, start)):
        raise Mismatch


def _digest(data: bytes, start: int) -> bytes:
    """Of all bytes, with zeros for the digest from ``start`` on."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(_ZEROS)
    digest.update(view[start + len(_ZEROS) :])
    return digest.hexdigest().encode()
