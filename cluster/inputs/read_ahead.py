"""Reads a file in blocks that adapt to how it is read: large if nearly everything is wanted, small if most is
skipped."""

from __future__ import annotations

from collections.abc import Callable

_SMALLEST, _FIRST, _LARGEST = 16 * 2**10, 64 * 2**10, 4 * 2**20
"""Bytes of a block. The smallest holds the headers and the texts between two large images of a WebDataset,
so that listing one takes at most about one request an image."""
_NEAR = 64 * 2**10
"""Bytes. To skip fewer saves less than the request for what follows costs."""


class ReadAhead:
    """Reads forward in a file, by few requests and without most of what is skipped."""

    def __init__(self, fetch: Callable[[int, int], bytes], total: int) -> None:
        """
        Args:
            fetch: returns the bytes at an offset and of a length, which are there.
            total: bytes of the file.
        """
        self.requests = 0
        """Number of calls of ``fetch`` so far."""
        self._fetch = fetch
        self._total = total
        self._start = 0
        self._block = b""
        self._length = _FIRST

    def __call__(self, offset: int, length: int) -> bytes:
        """The bytes at an offset; fewer than ``length`` only at the end of the file."""
        end = min(offset + length, self._total)
        if end <= offset:
            return b""
        if not (self._start <= offset and end <= self._start + len(self._block)):
            if self.requests:
                skipped = offset - self._start - len(self._block)
                near = skipped <= _NEAR
                self._length = min(2 * self._length, _LARGEST) if near else max(self._length // 2, _SMALLEST)
            self._start = offset
            self._block = self._fetch(offset, min(max(length, self._length), self._total - offset))
            self.requests += 1
        return self._block[offset - self._start : end - self._start]
