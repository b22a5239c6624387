"""A clock that a test holds."""

from __future__ import annotations

import threading


class Clock:
    """Stands still, so that what is slow on a busy machine is never late; while something ``hangs``, ten
    seconds pass from one reading to the next."""

    def __init__(self) -> None:
        self.hangs = threading.Event()
        self._now = 0.0

    def __call__(self) -> float:
        if self.hangs.is_set():
            self._now += 10
        return self._now
