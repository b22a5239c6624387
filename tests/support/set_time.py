"""Time as a test sets it."""

from __future__ import annotations


class SetTime:
    """What a clock reads."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds
