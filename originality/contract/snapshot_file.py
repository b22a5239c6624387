"""Checksummed snapshots: a line that names the format, sha256 of all that follows it, then the state itself.

What the state is made of (safetensors, say, or what torch saves) is up to the scorer that writes it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import BinaryIO

_DIGEST = hashlib.sha256().digest_size


def write_snapshot(header: bytes, write_state: Callable[[BinaryIO], object]) -> bytes:
    """A snapshot with what ``write_state`` writes.

    Args:
        header: first bytes of the snapshot, with the number of the format's version.
    """
    buffer = io.BytesIO()
    buffer.write(header + bytes(_DIGEST))
    write_state(buffer)
    start = len(header) + _DIGEST
    # The digest is entered in place: a model's state may fill much of the memory, which a second copy
    # would not fit into.
    with buffer.getbuffer() as view:
        view[len(header) : start] = hashlib.sha256(view[start:]).digest()
    return buffer.getvalue()


def read_snapshot(header: bytes, snapshot: bytes) -> BinaryIO:
    """A file that stands at the start of the state within a snapshot.

    Raises:
        ValueError: the snapshot has a different header, or does not match its checksum.
    """
    start = len(header) + _DIGEST
    if snapshot[: len(header)] != header:
        raise ValueError(
            f"the snapshot does not begin with {header.decode().strip()!r}: it is damaged, from a different "
            "version, or of a different kind"
        )
    if hashlib.sha256(memoryview(snapshot)[start:]).digest() != snapshot[len(header) : start]:
        raise ValueError("the snapshot is damaged: checksum mismatch")
    # A BytesIO of all the bytes shares them; one of a slice would copy a state that may be large.
    file = io.BytesIO(snapshot)
    file.seek(start)
    return file
