"""Notices calls of a scorer that hang."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from cluster.storage.bounds import Stopwatch


class Hung(Exception):  # noqa: N818 - a state of the worker
    """A call of the scorer does not return: the GPU does not answer, say."""

    def __init__(self, message: str, suspects: Sequence[int] = ()) -> None:
        super().__init__(message, tuple(suspects))
        self.suspects = frozenset(suspects)
        """Numbers of the inputs that the call may hang on. Empty if the machine is the cause."""

    def __str__(self) -> str:
        return str(self.args[0])


class _UnderWay(NamedTuple):
    what: str
    limit: float
    setting: str
    suspects: Sequence[int]
    watch: Stopwatch


class Watchdog:
    """Watch one call at a time, from another thread that calls :meth:`check` again and again.

    Time between two checks counts only up to a few seconds (:class:`cluster.storage.bounds.Stopwatch`), so
    that a process that was suspended, and checked nothing meanwhile, does not count as hung.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """``clock`` returns monotonic seconds; given by tests."""
        self._clock = clock
        self._under_way: _UnderWay | None = None

    @contextmanager
    def over(self, what: str, limit: float, setting: str, suspects: Sequence[int] = ()) -> Iterator[None]:
        """Watch a call for as long as the context is open.

        Args:
            what: the call, as a noun phrase for people.
            limit: seconds that it may take.
            setting: name of the cluster setting that gives ``limit``.
            suspects: numbers of the inputs that it may hang on.
        """
        self._under_way = _UnderWay(what, limit, setting, suspects, Stopwatch(self._clock))
        try:
            yield
        finally:
            self._under_way = None

    def check(self) -> None:
        """Check the call under way.

        Raises:
            Hung: it has taken longer than its limit.
        """
        now = self._under_way
        if now is not None and now.watch.read() > now.limit:
            raise Hung(f"{now.what} has not ended in {now.limit:g} s (cluster.{now.setting})", now.suspects)
