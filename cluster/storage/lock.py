"""A lock that needs only a store: whoever is first in a queue holds it."""

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
"""Without renewal, after which a holder is taken for dead."""
RENEW_SECONDS = STALE_SECONDS / 10
"""Between two renewals by the holder."""
PAUSE_SECONDS = 1.0
"""Between two attempts to take a lock that another process holds."""


class LockLost(Outage):
    """Another process took the lock, as this one did not renew it for minutes. The other may repeat what was
    done under it; a later attempt may succeed."""


class Lock:
    """A context that one process at a time can hold.

    The holder calls ``renew`` every minute or so. A lock that was not renewed for three minutes goes to the
    next process in the queue (see :mod:`cluster.storage.turns`): its holder is taken for dead. It may only
    have been suspended, though, and not know yet that it lost the lock. So what is done under a lock must be
    harmless if two processes do it.
    """

    def __init__(self, store: Store, folder: str, clock: Callable[[], float] = ticks) -> None:
        """``folder``: names the lock; contains the queue of the processes that want it."""
        self._folder = folder
        self._lost = False
        self._place = Place(store, folder, stale_seconds=STALE_SECONDS, clock=clock)

    def __enter__(self) -> Self:
        try:
            self._place.join()
            while self._place.ahead():
                time.sleep(PAUSE_SECONDS)
                self._stay_in_queue()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def renew(self) -> None:
        """Tell the others that the holder is alive. Cheap: most calls return without a request.

        Raises:
            LockLost: another process holds it now.
        """
        if self._lost or self._place.silent_seconds > RENEW_SECONDS:
            self.check()

    def check(self) -> None:
        """Make sure that the lock is still held, before a step that must not overlap another's.

        Raises:
            LockLost: another process holds it now.
        """
        try:
            self._place.renew()
        except Superseded as superseded:
            self._lost = True
            raise LockLost(f"the lock {self._folder} was lost: {superseded}") from superseded

    def renewed(self) -> AbstractContextManager[None]:
        """Renew the lock from a background thread while the context is open, beside work that takes long.
        ``renew`` and ``check`` still report whether it was lost."""
        return regularly(RENEW_SECONDS, self.renew)

    def _stay_in_queue(self) -> None:
        """Renew the place of a waiting process; one that lost it joins again at the end of the queue."""
        try:
            if self._place.silent_seconds > RENEW_SECONDS:
                self._place.renew()
        except Superseded:
            self._release()
            self._place.join()

    def _release(self) -> None:
        with suppress(StoreError):  # if it cannot be removed, it goes stale by itself
            self._place.leave()
