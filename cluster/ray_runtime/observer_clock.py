"""The driver's clock for judging whether others are silent."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_SECONDS = 5.0
"""By which the clock goes on between two readings."""


class ObserverClock:
    """Monotonic seconds that count only while this process observes.

    A process that was suspended, or held up by a store, has heard nothing meanwhile, though others may have
    spoken: that time must not be held against them. It shows as a gap between two readings of the clock,
    which the loop reads in each of its rounds.
    """

    def __init__(self, read: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._read_at = self._now = read()

    def now(self) -> float:
        at = self._read()
        self._now += min(at - self._read_at, MOST_SECONDS)
        self._read_at = at
        return self._now
