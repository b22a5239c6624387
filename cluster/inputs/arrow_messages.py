"""The messages of an Arrow file or stream: where in it they are, without reading their bodies.

https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
Each is a mark, the length of its metadata (a flatbuffer), the metadata, and a body of buffers. pyarrow reads
bodies, and these hold the images; so the few numbers that say how long a body is are read here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SCHEMA, DICTIONARY, BATCH = 1, 2, 3
"""Kinds of messages."""
_MARK = b"\xff\xff\xff\xff"
_MAGIC = b"ARROW1"
_PREFIX = 8
"""Bytes before the metadata; as many begin a file that is no stream."""
_MOST_METADATA = 64 * 2**20
_KIND, _HEADER, _BODY_LENGTH = 1, 2, 3
"""Numbers of fields in the flatbuffer of a message."""
_ROWS, _NODES, _COMPRESSION = 0, 1, 3
"""Numbers of fields in the header of a batch."""


class BadArrow(Exception):  # noqa: N818
    """Not an Arrow file, or a damaged one; the message says what and where."""


@dataclass(frozen=True)
class Message:
    """A message."""

    kind: int
    head: bytes
    """Its prefix and metadata, behind which its body follows."""
    body: int
    """Offset of the body."""
    body_length: int
    """Bytes of the body."""
    is_compressed: bool = False
    """Whether the buffers of a batch are compressed."""


def messages(read: Callable[[int, int], bytes], size: int) -> Iterator[Message]:
    """The messages of a file or stream, in order.

    Args:
        read: returns the bytes at an offset and of a length; fewer at the end of the file.
        size: bytes of the file.

    Raises:
        BadArrow: the file is damaged, or cut off.
    """
    at = _PREFIX if read(0, len(_MAGIC)) == _MAGIC else 0
    while at < size:
        prefix = read(at, _PREFIX)
        if len(prefix) < _PREFIX or prefix[:4] != _MARK:
            what = "is not an Arrow file" if not at else f"is damaged or cut off at byte {at}"
            raise BadArrow(f"{what}: what follows is not listed" if at else what)
        (length,) = struct.unpack("<i", prefix[4:])
        if length == 0:
            return
        if not 0 < length <= min(_MOST_METADATA, size - at - _PREFIX):
            raise BadArrow(f"is damaged or cut off at byte {at}: what follows is not listed")
        metadata = read(at + _PREFIX, length)
        body = at + _PREFIX + length
        try:
            kind, body_length, is_compressed = _parsed(metadata)
        except (struct.error, ValueError):
            raise BadArrow(f"is damaged at byte {at}: what follows is not listed") from None
        if not 0 <= body_length <= size - body:
            raise BadArrow(f"is damaged or cut off at byte {at}: what follows is not listed")
        yield Message(kind, prefix + metadata, body, body_length, is_compressed)
        at = body + body_length
    if size == 0:
        raise BadArrow("is empty")


def _parsed(metadata: bytes) -> tuple[int, int, bool]:
    """Kind and length of the body, from the flatbuffer of a message, and whether its buffers are compressed.

    Raises:
        struct.error, ValueError: the flatbuffer is damaged.
    """
    (root,) = struct.unpack_from("<I", metadata, 0)
    kind, header, body = (_field(metadata, root, number) for number in (_KIND, _HEADER, _BODY_LENGTH))
    found: int = metadata[kind] if kind else 0
    (length,) = struct.unpack_from("<q", metadata, body) if body else (0,)
    compressed = False
    if found == BATCH and header:
        batch = _below(metadata, header)
        _check_lengths(metadata, batch)
        compressed = _field(metadata, batch, _COMPRESSION) > 0
    return found, length, compressed


def _check_lengths(metadata: bytes, batch: int) -> None:
    """Check the numbers of rows of a batch and of its columns: pyarrow ends the process on negative ones.

    Raises:
        struct.error, ValueError: one is negative, or the flatbuffer is damaged.
    """
    rows, nodes = _field(metadata, batch, _ROWS), _field(metadata, batch, _NODES)
    lengths = list(struct.unpack_from("<q", metadata, rows)) if rows else []
    if nodes:
        start = _below(metadata, nodes)
        (count,) = struct.unpack_from("<I", metadata, start)
        lengths += struct.unpack_from(f"<{2 * count}q", metadata, start + 4)[::2]
    if any(length < 0 for length in lengths):
        raise ValueError("a negative number of rows")


def _below(metadata: bytes, field: int) -> int:
    """Offset of a table or vector that a field points to."""
    (offset,) = struct.unpack_from("<I", metadata, field)
    return field + int(offset)


def _field(metadata: bytes, table: int, number: int) -> int:
    """Offset of a field of a flatbuffer's table; 0 if it is left out."""
    (back,) = struct.unpack_from("<i", metadata, table)
    places = table - back
    if places < 0:
        raise ValueError("before the beginning")
    (length,) = struct.unpack_from("<H", metadata, places)
    place = 4 + 2 * number
    if place + 2 > length:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, places + place)
    if table + offset >= len(metadata):
        raise ValueError("behind the end")
    return table + offset if offset else 0
