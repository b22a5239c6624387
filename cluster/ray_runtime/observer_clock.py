"""The clock by which the driver measures how long others have been silent."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_SECONDS = 5.0
"""Most seconds that the clock advances between two readings."""


class ObserverClock:
    """Monotonic seconds that count only while this process listens.

    A driver that was suspended, or that waited for a store, heard nothing meanwhile, although workers may
    have answered. If that time counted as their silence, a driver would take all its workers for dead
    whenever it wakes. Such time shows as a gap between two readings, as the driver's loop reads the clock in
    each round, so a gap counts for at most ``MOST_SECONDS``.
    """

    def __init__(self, read: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._read_at = self._now = read()

    def now(self) -> float:
        """Seconds since some fixed time, without those in which this process did not listen."""
        at = self._read()
        self._now += min(at - self._read_at, MOST_SECONDS)
        self._read_at = at
        return self._now
