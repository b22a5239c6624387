"""What a person sees while a run goes on: on a terminal a live view, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.driver.remaining import RemainingWork
from originality.contract.printable import PrintableStream, printable, unescaped
from originality.contract.redaction import masked

_LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""
_RECENT_SECONDS = 600.0
"""The rate is that of the last ten minutes: machines come and go."""
_FIRST_ETA_SECONDS = 10.0
"""Of work, before which the time left is not worth telling."""


class _Mark(NamedTuple):
    """How far a run was at a time."""

    at: float
    done: int
    worked: float


class Progress:
    """Counts and shows. On a terminal that can move its cursor a few lines are rewritten; elsewhere a line is
    printed when work begins, then at most every ten seconds, and at the end."""

    def __init__(
        self,
        total: int,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        of: str = "images",
        most_parts: int = 1,
    ) -> None:
        """``of``: what the inputs are; ``most_parts``: of work that one takes."""
        self._total, self._of = total, of
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._began: float | None = None
        self._shown: float | None = None
        self._working = False
        self._counts: Counter[str] = Counter()
        self._remaining = RemainingWork(most_parts)
        self._worked = 0.0
        self._in_flight: Sequence[float] = ()
        self._marks: list[_Mark] = []
        self._last: tuple[int, float] = (0, 0.0)
        self._live: Live | None = None
        console = Console(file=unescaped(stream))
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, refresh_per_second=4, transient=False)
            self._live.start()  # which puts streams of its own in the place of stdout and stderr
            sys.stdout, sys.stderr = (cast(TextIO, PrintableStream(s)) for s in (sys.stdout, sys.stderr))

    @property
    def counts(self) -> Counter[str]:
        """Inputs settled in this run, by the status of their image."""
        return Counter(self._counts)

    def began(self) -> None:
        """The first scorer is ready: from here on the rate is counted."""
        if self._began is None:
            self._began = self._clock()
            self._marks = [self._mark()]

    def settled(self, status: str, inputs: int = 1, parts: float = 0.0) -> None:
        """An image has its record, by which so many inputs are settled; it took so many parts of work."""
        self._counts[status] += inputs
        if inputs:
            self._remaining.finished(parts, copies=inputs - 1)

    def worked(self, parts: float) -> None:
        """So many parts of work were done (see originality.contract.scorer)."""
        self._worked += parts

    def in_flight(self, parts: Sequence[float]) -> None:
        """How many parts are done of each item that is being worked on."""
        self._in_flight = parts

    def show(self, doing: str, *, workers: int = 0, cost: float = 0.0, now: bool = False) -> None:
        """Shows how far it is, if that is due; ``now`` makes it due. ``cost`` in US dollars."""
        first_work = self._began is not None and doing != "" and not self._working
        due = self._shown is None or self._clock() - self._shown >= _LINE_EVERY
        self._last = workers, cost
        if self._live and now:
            self._live.console.print(Text(_shown(doing)))
        elif self._live:
            self._live.update(self._view(doing, workers, cost))
        elif now or due or first_work:
            self._write(self.line(doing, workers, cost))
        self._working = self._working or first_work

    def close(self) -> None:
        """Shows how far it came: the last view or line stays."""
        workers, cost = self._last
        if self._live:
            self._live.update(self._view("", workers, cost))
            self._live.stop()
        elif self._shown is not None:
            self._write(self.line("", workers, cost))

    def _write(self, line: str) -> None:
        self._stream.write(f"{_shown(line)}\n")
        self._stream.flush()
        self._shown = self._clock()

    def _mark(self) -> _Mark:
        return _Mark(self._clock(), self._counts.total(), self._worked)

    def _since(self) -> tuple[_Mark, _Mark] | None:
        """The run some minutes ago and now; None where no time has passed since work began."""
        if not self._marks:
            return None
        now = self._mark()
        if now.at - self._marks[-1].at >= _RECENT_SECONDS / 20:
            self._marks.append(now)
        while len(self._marks) > 1 and now.at - self._marks[0].at > _RECENT_SECONDS:
            self._marks.pop(0)
        return (self._marks[0], now) if now.at > self._marks[0].at else None

    def rate(self) -> float:
        """Inputs a second, in the last ten minutes."""
        since = self._since()
        return (since[1].done - since[0].done) / (since[1].at - since[0].at) if since else 0.0

    def seconds_left(self) -> float | None:
        """Time left at the pace of the last ten minutes, by the work that finished items took; None before
        there is any."""
        since, left = self._since(), self._total - self._counts.total()
        if left <= 0 or since is None or self._clock() - (self._began or 0.0) < _FIRST_ETA_SECONDS:
            return None
        before, now = since
        worked = now.worked - before.worked
        if worked <= 0:
            return None
        waiting = max(0, left - len(self._in_flight))
        return self._remaining.parts(self._in_flight, waiting) * (now.at - before.at) / worked

    def state(self) -> dict[str, Any]:
        """The same in numbers."""
        rate, left = self.rate(), self.seconds_left()
        return {
            "inputs": self._total,
            "of": self._of,
            "done": self._counts.total(),
            "counts": dict(self._counts),
            "per_hour": round(rate * 3600, 1),
            "seconds": round(self._clock() - self._started),
            "seconds_left": None if left is None else round(left),
        }

    def line(self, doing: str, workers: int = 0, cost: float = 0.0) -> str:
        return " · ".join([*self._parts(workers, cost), *([doing] if doing else [])])

    def _parts(self, workers: int, cost: float) -> list[str]:
        done, elapsed = self._counts.total(), self._clock() - self._started
        bad = [(n, status) for status in ("rejected", "failed") if (n := self._counts[status])]
        whole = done >= self._total
        parts = [f"all {done} done" if whole and done else f"{done}/{self._total} done"]
        parts += [f"{n} {status}" for n, status in bad]
        if elapsed >= 1:
            parts.append(f"{'in' if whole else 'after'} {duration(elapsed)}")
        if not whole and (rate := self.rate()):
            parts.append(spoken_rate(rate, self._of))
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {duration(left)} left")
        if workers > 1:
            parts.append(f"{workers} workers")
        if cost >= 0.005:
            parts.append(f"${cost:.2f}")
        return parts

    def _view(self, doing: str, workers: int, cost: float) -> Table:
        bar = ProgressBar(total=max(1, self._total), completed=self._counts.total(), width=40)
        numbers = Text(" · ".join(self._parts(workers, cost)))
        view = Table.grid()
        view.add_row(bar)
        view.add_row(numbers)
        if doing:
            view.add_row(Text(_shown(doing), style="dim", overflow="ellipsis", no_wrap=True))
        return view


def _shown(text: str) -> str:
    """Why a worker died may name a file, and a name may hold anything."""
    return printable(masked(text))


def spoken_rate(per_second: float, of: str) -> str:
    if per_second < 1 / 60:
        return f"{_short(per_second * 3600)} {of}/h"
    return f"{_short(per_second * 60)} {of}/min" if per_second < 10 else f"{per_second:,.0f} {of}/s"


def _short(number: float) -> str:
    """Three digits, or all of a large number: never an exponent."""
    return f"{number:.3g}" if number < 999.5 else f"{number:,.0f}"


def duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 100 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole / 86400:.1f} days"


def size(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
