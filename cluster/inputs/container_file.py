"""A container as a file that pyarrow reads: each read is one request for a range of the container as it was
listed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from cluster.inputs.locations import Container, Member
from cluster.inputs.unreadable import Unreadable

LONGEST_READ = 2**30
"""Bytes of one read. A page of a Parquet file is read in one."""
_TAIL = 8
Fetch = Callable[[Member], bytes]
"""Reads a part of a container: :func:`cluster.inputs.sources.read_member`."""


class ContainerFile(io.RawIOBase):
    """A container, read by ranges. One thread at a time may use it."""

    def __init__(self, container: Container, fetch: Fetch) -> None:
        super().__init__()
        self.error: Exception | None = None
        """The error of the first read that failed: pyarrow does not always pass it on."""
        self.tail = b""
        """The last bytes of the container, if they were read."""
        self._container = container
        self._fetch = fetch
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._container.size}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes; fewer only at the end of the container."""
        left = max(0, self._container.size - self._at)
        length = left if size is None or size < 0 else min(size, left)
        if not length:
            return b""
        try:
            if length > LONGEST_READ:
                raise Unreadable(
                    "unreadable",
                    f"{self._container.uri}: one part of it has {length} bytes; at most {LONGEST_READ} are "
                    "read at once: write it with smaller row groups",
                )
            data = self._fetch(Member(self._container, self._at, length))
        except Exception as error:
            self.error = self.error or error
            raise
        self._at += length
        if self._at == self._container.size and length >= _TAIL:
            self.tail = data[-_TAIL:]
        return data

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Make calls of pyarrow in the context.

        Args:
            what: is read, for messages.

        Raises:
            Unreadable: the file is damaged, or of a kind that pyarrow does not read.
            Exception: that of a failed read.
        """
        try:
            yield
        except Unreadable:
            raise
        except Exception as error:
            if self.error is not None:
                raise self.error from error
            if isinstance(error, MemoryError) and not isinstance(error, pa.ArrowMemoryError):
                raise
            # Given hostile bytes, pyarrow raises any of its own exceptions, and those of Python's types.
            raise Unreadable("unreadable", f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
