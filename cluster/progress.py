"""What a person sees while a run goes on: on a terminal a live view, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""
_RECENT_SECONDS = 600.0
"""The rate is that of the last ten minutes: machines come and go."""


class Progress:
    """Counts and shows. On a terminal a few lines are rewritten; elsewhere a line is printed at once
    when work begins, and then at most every ten seconds."""

    def __init__(
        self, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic, of: str = "images"
    ) -> None:
        """``of``: what the inputs are."""
        self._total, self._of = total, of
        self._stream = stream
        self._clock = clock
        self._began: float | None = None
        self._shown: float | None = None
        self._worked = False
        self._counts: Counter[str] = Counter()
        self._marks: list[tuple[float, int]] = []
        self._live: Live | None = None
        if stream.isatty():
            self._live = Live(console=Console(file=stream), refresh_per_second=4, transient=False)
            self._live.start()

    @property
    def counts(self) -> Counter[str]:
        """Inputs settled in this run, by the status of their image."""
        return Counter(self._counts)

    def began(self) -> None:
        """The first scorer is ready: from here on the rate is counted."""
        if self._began is None:
            self._began = self._clock()
            self._marks = [(self._began, self._counts.total())]

    def settled(self, status: str, inputs: int = 1) -> None:
        self._counts[status] += inputs

    def show(self, doing: str, *, workers: int = 0, cost: float = 0.0, now: bool = False) -> None:
        """Shows how far it is, if that is due; ``now`` makes it due. ``cost`` in US dollars."""
        first_work = self._began is not None and doing != "" and not self._worked
        due = self._shown is None or self._clock() - self._shown >= _LINE_EVERY
        if self._live and now:
            self._live.console.print(Text(doing))
        elif self._live:
            self._live.update(self._view(doing, workers, cost))
        elif now or due or first_work:
            self._stream.write(f"{self.line(doing, workers, cost)}\n")
            self._stream.flush()
            self._shown = self._clock()
        self._worked = self._worked or first_work

    def close(self) -> None:
        """Leaves the last view standing."""
        if self._live:
            self._live.stop()

    def rate(self) -> float:
        """Inputs a second, lately."""
        if self._began is None:
            return 0.0
        now, done = self._clock(), self._counts.total()
        if now - self._marks[-1][0] >= _RECENT_SECONDS / 20:
            self._marks.append((now, done))
        while len(self._marks) > 1 and now - self._marks[0][0] > _RECENT_SECONDS:
            self._marks.pop(0)
        since, before = self._marks[0]
        return (done - before) / (now - since) if now > since else 0.0

    def state(self) -> dict[str, Any]:
        """The same in numbers."""
        rate, done = self.rate(), self._counts.total()
        return {
            "inputs": self._total,
            "of": self._of,
            "done": done,
            "counts": dict(self._counts),
            "per_hour": round(rate * 3600, 1),
            "seconds_left": round((self._total - done) / rate) if rate else None,
        }

    def line(self, doing: str, workers: int = 0, cost: float = 0.0) -> str:
        return " · ".join([*self._parts(workers, cost), *([doing] if doing else [])])

    def _parts(self, workers: int, cost: float) -> list[str]:
        done = self._counts.total()
        bad = [(n, status) for status in ("rejected", "failed") if (n := self._counts[status])]
        parts = [f"{done}/{self._total} done", *(f"{n} {status}" for n, status in bad)]
        rate = self.rate()
        if rate:
            parts += [spoken_rate(rate, self._of), f"ETA {duration((self._total - done) / rate)}"]
        if workers > 1:
            parts.append(f"{workers} workers")
        if cost:
            parts.append(f"${cost:.2f}")
        return parts

    def _view(self, doing: str, workers: int, cost: float) -> Table:
        bar = ProgressBar(total=max(1, self._total), completed=self._counts.total(), width=40)
        numbers = Text(" · ".join(self._parts(workers, cost)))
        view = Table.grid()
        for row in (bar, numbers, Text(doing, style="dim", overflow="ellipsis", no_wrap=True)):
            view.add_row(row)
        return view


def spoken_rate(per_second: float, of: str) -> str:
    if per_second < 1 / 60:
        return f"{per_second * 3600:.3g} {of}/h"
    return f"{per_second * 60:.3g} {of}/min" if per_second < 10 else f"{per_second:.0f} {of}/s"


def duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 100 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole / 86400:.1f} days"
