"""What a worker's scorer is doing, since when, and for how long it may."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from cluster.storage.bounds import Stopwatch


class Hung(Exception):  # noqa: N818 - what happened to the worker
    """A call of the scorer goes on without end: a GPU that does not answer, say."""

    def __init__(self, message: str, suspects: Sequence[int] = ()) -> None:
        super().__init__(message, tuple(suspects))
        self.suspects = frozenset(suspects)
        """Inputs that were in hand, and may be what it hangs on. Empty where it is the machine."""

    def __str__(self) -> str:
        return str(self.args[0])


class _UnderWay(NamedTuple):
    what: str
    limit: float
    setting: str
    suspects: Sequence[int]
    watch: Stopwatch


class Watchdog:
    """Over one call at a time; another thread asks about it again and again. Time in which nobody asks hardly
    counts, so that a process that was suspended is not taken for one that hangs."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """``clock``: for tests; monotonic."""
        self._clock = clock
        self._under_way: _UnderWay | None = None

    @contextmanager
    def over(self, what: str, limit: float, setting: str, suspects: Sequence[int] = ()) -> Iterator[None]:
        """While it is open, something is under way.

        Args:
            what: a noun phrase, for people.
            limit: seconds, by the setting of that name.
            suspects: inputs that it may hang on.
        """
        self._under_way = _UnderWay(what, limit, setting, suspects, Stopwatch(self._clock))
        try:
            yield
        finally:
            self._under_way = None

    def check(self) -> None:
        """Raises:
        Hung: what is under way has taken longer than it may.
        """
        now = self._under_way
        if now is not None and now.watch.read() > now.limit:
            raise Hung(f"{now.what} has not ended in {now.limit:g} s (cluster.{now.setting})", now.suspects)
