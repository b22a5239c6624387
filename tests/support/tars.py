"""Tar files for tests: WebDataset shards, and headers that no program would write."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping


def shard(members: Mapping[str, bytes] | list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar file of members, in order; names may repeat."""
    pairs = members.items() if isinstance(members, Mapping) else members
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in pairs:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return buffer.getvalue()


def header(name: bytes, size: bytes | int = 0, kind: bytes = b"0", checksum: bytes | None = None) -> bytes:
    """One header of 512 bytes, with the right checksum unless another is given."""
    digits = b"%011o\0" % size if isinstance(size, int) else size
    block = bytearray(512)
    block[: len(name)] = name
    block[124 : 124 + len(digits)] = digits
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = checksum or b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Contents filled up to complete blocks."""
    return data + bytes(-len(data) % 512)


END = bytes(1024)
