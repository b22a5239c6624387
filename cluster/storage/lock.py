"""A lock that every store has: the turn in a queue of those who want it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Self

from cluster.storage.periodic import regularly
from cluster.storage.store import Outage, Store, StoreError
from cluster.storage.turns import Place, Superseded, ticks

STALE_SECONDS = 180.0
_KEEP_SECONDS = STALE_SECONDS / 10
_PAUSE_SECONDS = 1.0


class LockLost(Outage):
    """Another has taken the lock, as nothing was heard of this process for minutes. What was done under it
    may be done again by the other; a later attempt may succeed."""


class Lock:
    """Held by one at a time, as a context. Who holds it calls ``keep`` every minute or so; one that was not
    kept for three minutes belonged to somebody who died, and goes to the next (see
    :mod:`cluster.storage.turns`). That one may only have been suspended, so what is done under a lock must be
    harmless if done twice."""

    def __init__(self, store: Store, path: str, clock: Callable[[], float] = ticks) -> None:
        """``path``: names the lock; what there is of it lies below, without an ending ".json"."""
        self._path = path
        self._lost = False
        self._place = Place(store, path.removesuffix(".json"), stale_seconds=STALE_SECONDS, clock=clock)

    def __enter__(self) -> Self:
        try:
            self._place.take()
            while self._place.ahead():
                time.sleep(_PAUSE_SECONDS)
                self._stay()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def keep(self) -> None:
        """To be called often: looks only now and then.

        Raises:
            LockLost: it is held by another now.
        """
        if self._lost or self._place.silent_seconds > _KEEP_SECONDS:
            self.check()

    def check(self) -> None:
        """Makes sure before a step that another's work must not meet.

        Raises:
            LockLost: as of ``keep``.
        """
        try:
            self._place.keep()
        except Superseded as superseded:
            self._lost = True
            raise LockLost(f"the lock {self._path} was lost: {superseded}") from superseded

    def kept(self) -> AbstractContextManager[None]:
        """Keeps it while the context is open, beside work that takes long. Whether it was lost all the same,
        ``keep`` and ``check`` say."""
        return regularly(_KEEP_SECONDS, self.keep)

    def _stay(self) -> None:
        """Keeps the place of one that waits, or joins again behind those who came in the meantime."""
        try:
            if self._place.silent_seconds > _KEEP_SECONDS:
                self._place.keep()
        except Superseded:
            self._release()
            self._place.take()

    def _release(self) -> None:
        with suppress(StoreError):  # it becomes stale by itself
            self._place.give_back()
