"""Deaths of workers: which there are, what each was of, and when they say more than that one worker died."""

from __future__ import annotations

import time
from typing import Any

import ray

from cluster.leases import MOST_DEATHS
from cluster.runtime import EngineError
from cluster.worker import Report

DEATHS = (
    ray.exceptions.RayActorError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
)

CAP_SECONDS = 600.0
"""How long no more workers are hired than are ready, when others died before they were."""


class Deaths:
    """Counts them. Several in a row of one kind are no accident."""

    def __init__(self) -> None:
        self.total = 0
        self.ever_ready = False
        """Whether any worker built its scorer: before that, a failure is the settings'."""
        self._stillborn = 0
        self._cut_off = 0
        self._cap: tuple[int, float] | None = None

    def one_is_ready(self) -> None:
        self._stillborn, self.ever_ready = 0, True

    def one_settled(self) -> None:
        self._cut_off = 0

    def stillborn(self, ready: int, cause: str) -> None:
        """A worker died before it was ready, as ``ready`` others are.

        Raises:
            EngineError: the third in a row, and none is ready.
        """
        self._stillborn += 1
        if self._stillborn < MOST_DEATHS:
            return
        if not ready:
            raise EngineError(f"{self._stillborn} workers died before they were ready: {cause}")
        self._stillborn = 0  # there may be no room for more, now
        self._cap = (ready, time.monotonic() + CAP_SECONDS)

    def cut_off(self, error: Exception) -> None:
        """A worker waited in vain for a store, or cannot decode: its machine may be cut off, or broken.

        Raises:
            EngineError: others fared the same, so it is not the machine.
        """
        self._cut_off += 1
        if self._cut_off >= MOST_DEATHS:
            raise EngineError(str(error)) from error

    def capped(self, most: int) -> int:
        """Most workers that it makes sense to have now."""
        if self._cap and time.monotonic() < self._cap[1]:
            return min(most, self._cap[0])
        return most


def report_of(reference: Any, timeout: float | None = None) -> Report:
    """A worker's answer.

    Raises:
        Exception: what ended the worker, or its work.
    """
    try:
        return ray.get(reference, timeout=timeout)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def cause_of(death: Exception) -> str:
    """One line of Ray's many: the exception, where one in the worker's own start was the cause."""
    lines = [line.strip() for line in str(death).splitlines() if line.strip()]
    if not lines:
        return type(death).__name__
    return lines[-1] if "creation task" in lines[0] else lines[0]
