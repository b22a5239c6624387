"""What a person sees while a run goes on: one line, kept up to date."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from typing import TextIO

_LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""


class Progress:
    """Counts and shows. On a terminal one line is rewritten; elsewhere a line is printed at once
    when work begins, and then at most every ten seconds."""

    def __init__(self, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._stream = stream
        self._clock = clock
        self._live = stream.isatty()
        self._began: float | None = None
        self._shown: float | None = None
        self._worked = False
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Counter[str]:
        """Images settled in this run, by status."""
        return Counter(self._counts)

    def began(self) -> None:
        """The first scorer is ready: from here on the rate is counted."""
        if self._began is None:
            self._began = self._clock()

    def settled(self, status: str) -> None:
        self._counts[status] += 1

    def show(self, doing: str, *, now: bool = False) -> None:
        """Shows the line, if it is due; ``now`` makes it due."""
        first_work = self._began is not None and doing != "" and not self._worked
        due = self._shown is None or self._clock() - self._shown >= _LINE_EVERY
        if self._live:
            width = shutil.get_terminal_size().columns - 1  # a wrapped line could not be rewritten
            self._stream.write(f"\r\033[K{self.line(doing)[:width]}")
        elif now or due or first_work:
            self._stream.write(f"{self.line(doing)}\n")
            self._shown = self._clock()
        self._worked = self._worked or first_work
        self._stream.flush()

    def close(self) -> None:
        """Leaves the last line standing."""
        if self._live:
            self._stream.write("\n")
            self._stream.flush()

    def line(self, doing: str) -> str:
        done = self._counts.total()
        bad = [(n, status) for status in ("rejected", "failed") if (n := self._counts[status])]
        parts = [f"{done}/{self._total} done", *(f"{n} {status}" for n, status in bad)]
        elapsed = self._clock() - self._began if self._began is not None else 0.0
        if done and elapsed > 0:
            rate = done / elapsed
            parts.append(f"{rate * 60:.3g} images/min")
            parts.append(f"ETA {_duration((self._total - done) / rate)}")
        if doing:
            parts.append(doing)
        return " · ".join(parts)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
