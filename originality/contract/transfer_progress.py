"""Reports the progress of downloads and uploads in lines."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_EVERY_SECONDS = 5.0
"""Time between two lines of progress."""


def to_stderr(line: str) -> None:
    """Write a line to stderr at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass
class Progress:
    """Context manager that reports a download in lines: name, bytes received, rate, time left."""

    what: str
    total: int | None = None
    """Bytes."""
    report: Callable[[str], object] = to_stderr
    """Called with each line."""
    clock: Callable[[], float] = time.monotonic
    doing: str = "fetching"
    _done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._began = self._last = self.clock()
        size = "" if self.total is None else f" ({self.total / 1e6:.0f} MB)"
        self.report(f"{self.doing} {self.what}{size}")
        return self

    def add(self, count: int) -> None:
        """Count received bytes. May be called from any thread."""
        with self._lock:
            self._done += count
            now = self.clock()
            if now - self._last >= _EVERY_SECONDS:
                self._last = now
                self.report(f"{self.what}: {self._amount()}, {self._rate(now):.1f} MB/s{self._left(now)}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            now = self.clock()
            self.report(
                f"{self.what}: {self._done / 1e6:.0f} MB in {now - self._began:.0f} s "
                f"({self._rate(now):.1f} MB/s)"
            )

    def _amount(self) -> str:
        of = "" if self.total is None else f" of {self.total / 1e6:.0f}"
        return f"{self._done / 1e6:.0f}{of} MB"

    def _rate(self, now: float) -> float:
        return self._done / 1e6 / max(now - self._began, 1e-3)

    def _left(self, now: float) -> str:
        if self.total is None or not 0 < self._done < self.total:
            return ""
        return f", {(self.total - self._done) / 1e6 / self._rate(now):.0f} s left"
