"""A checksum stored inside a file, for formats with key-value metadata (Parquet, safetensors).

Other programs read such a file as usual.

The checksum covers every byte of the file except its own 64 digits, which count as zeros.
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
"""Most bytes between key and value: quotes, types and lengths of the format."""


class Mismatch(ValueError):  # noqa: N818
    """The content of a file is not what was written."""

    def __init__(self) -> None:
        super().__init__("checksum mismatch")


def stamp(data: bytes) -> bytes:
    """Replace the PLACEHOLDER under KEY by the file's checksum."""
    start = data.rindex(_PREFIX + _ZEROS) + len(_PREFIX)
    return data[:start] + _digest(data, start) + data[start + len(_ZEROS) :]


def check(data: bytes) -> None:
    """Check a file that :func:`stamp` returned; a file without a checksum passes.

    Raises:
        Mismatch: the file is damaged.
    """
    key, prefix = data.rfind(KEY.encode()), data.rfind(_PREFIX)
    if key < 0 and prefix < 0:
        return
    start = prefix + len(_PREFIX)
    # Damage may hit the key or the prefix itself. If only one of them is found, or they are apart, the file
    # did have a checksum, and must not pass as one that never had any.
    beside = 0 <= prefix - key - len(KEY) <= _MOST_BETWEEN
    if not (beside and data[start : start + len(_ZEROS)] == _digest(data, start)):
        raise Mismatch


def _digest(data: bytes, start: int) -> bytes:
    """sha256 of all bytes, with zeros in place of the digest that begins at ``start``."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(_ZEROS)
    digest.update(view[start + len(_ZEROS) :])
    return digest.hexdigest().encode()
