"""A clock set by a test."""

from __future__ import annotations


class SetTime:
    """A clock that shows what a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds
