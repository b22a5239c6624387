"""Shows the progress of a run: a live view on a terminal, a line now and then elsewhere."""

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
"""The rate is measured over the last ten minutes, as machines come and go."""
_FIRST_ETA_SECONDS = 10.0
"""Seconds of work before which no time left is shown, as it would be a guess."""


class _Mark(NamedTuple):
    """How far a run was at one time."""

    at: float
    done: int
    worked: float


class Progress:
    """Counts settled inputs and shows how far the run is.

    On a terminal that can move its cursor a few lines are rewritten. Elsewhere a line is printed when work
    begins, then at most every ten seconds, and at the end.
    """

    def __init__(
        self,
        total: int,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        of: str = "images",
        most_parts: int = 1,
    ) -> None:
        """
        Args:
            total: inputs of this start of the run.
            stream: where progress is shown.
            clock: monotonic seconds.
            of: what the inputs are called, in the plural.
            most_parts: most parts of work that one input takes.
        """
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
            # Rich replaces stdout and stderr while the view is live; wrapped again, they stay free of secrets
            # and control characters.
            self._live.start()
            sys.stdout, sys.stderr = (cast(TextIO, PrintableStream(s)) for s in (sys.stdout, sys.stderr))

    @property
    def counts(self) -> Counter[str]:
        """Inputs settled in this run, by the status of their image."""
        return Counter(self._counts)

    def began(self) -> None:
        """Start measuring the rate, as the first scorer is ready."""
        if self._began is None:
            self._began = self._clock()
            self._marks = [self._mark()]

    def settled(self, status: str, inputs: int = 1, parts: float = 0.0) -> None:
        """Count an image that has its record.

        Args:
            status: of the record.
            inputs: number of inputs that are this image, and so are settled.
            parts: parts of work that it took.
        """
        self._counts[status] += inputs
        if inputs:
            self._remaining.finished(parts, copies=inputs - 1)

    def worked(self, parts: float) -> None:
        """Add parts of work that were done (see :class:`originality.contract.scorer.Scorer`)."""
        self._worked += parts

    def in_flight(self, parts: Sequence[float]) -> None:
        """Set how many parts are done of each item in flight."""
        self._in_flight = parts

    def show(self, doing: str, *, workers: int = 0, cost: float = 0.0, now: bool = False) -> None:
        """Show how far the run is, if that is due; ``now`` makes it due. ``cost`` is in US dollars."""
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
        """Show the final state, which stays on the terminal."""
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
        """Marks of some minutes ago and of now; None if no time has passed since work began."""
        if not self._marks:
            return None
        now = self._mark()
        if now.at - self._marks[-1].at >= _RECENT_SECONDS / 20:
            self._marks.append(now)
        while len(self._marks) > 1 and now.at - self._marks[0].at > _RECENT_SECONDS:
            self._marks.pop(0)
        return (self._marks[0], now) if now.at > self._marks[0].at else None

    def rate(self) -> float:
        """Inputs per second over the last ten minutes."""
        since = self._since()
        return (since[1].done - since[0].done) / (since[1].at - since[0].at) if since else 0.0

    def seconds_left(self) -> float | None:
        """Seconds left at the rate of the last ten minutes, from the work that finished items took. None
        while that is unknown."""
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
        """The state as numbers, for the heartbeat and ``originality status``."""
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
        """The progress as one line of text."""
        return " · ".join([*self._parts(workers, cost), *([doing] if doing else [])])

    def _parts(self, workers: int, cost: float) -> list[str]:
        done, elapsed = self._counts.total(), self._clock() - self._started
        bad = [(n, status) for status in ("rejected", "failed") if (n := self._counts[status])]
        finished = done >= self._total
        parts = [f"all {done} done" if finished and done else f"{done}/{self._total} done"]
        parts += [f"{n} {status}" for n, status in bad]
        if elapsed >= 1:
            parts.append(f"{'in' if finished else 'after'} {duration(elapsed)}")
        if not finished and (rate := self.rate()):
            parts.append(rate_text(rate, self._of))
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
    """One line without secrets or control characters: the name of a file may contain anything."""
    return printable(masked(text))


def rate_text(per_second: float, of: str) -> str:
    """A rate in the unit that suits it: "20 images/h", "3 images/min"."""
    if per_second < 1 / 60:
        return f"{_short(per_second * 3600)} {of}/h"
    return f"{_short(per_second * 60)} {of}/min" if per_second < 10 else f"{per_second:,.0f} {of}/s"


def _short(number: float) -> str:
    """Three digits, or all digits of a large number; never an exponent."""
    return f"{number:.3g}" if number < 999.5 else f"{number:,.0f}"


def duration(seconds: float) -> str:
    """A duration for people: "59 s", "3 min 20 s", "2 h 5 min", "4.5 days"."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    if rounded < 100 * 3600:
        return f"{rounded // 3600} h {rounded % 3600 // 60} min"
    return f"{rounded / 86400:.1f} days"


def size(count: int) -> str:
    """A number of bytes for people: "3.4 GB", "12 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
