"""Deaths of workers: which there are, what each was of, and when they say more than that one worker died."""

from __future__ import annotations

import time
from typing import Any

import ray

from cluster.ray_runtime.runtime import EngineError
from cluster.run.leases import MOST_DEATHS
from cluster.worker.worker import Report

DEATHS = (
    ray.exceptions.RayActorError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
)

MOST_FRUITLESS = 10
"""Deaths in a row of workers that had judged nothing, after which a run ends. Images that kill may stand
first in a collection, so it is more than they need to be found out."""

MOST_IN_VAIN = 20
"""Deaths in a row, of any kind, with no work done in between and no worker ready, after which a run ends;
three for each worker that it may have, if these are more."""

CAP_SECONDS = 600.0
"""How long no more workers are hired than there are, after several died before they did anything."""


class Deaths:
    """Counts them. Several in a row of one kind are no accident."""

    def __init__(self) -> None:
        self.total = 0
        self.ever_ready = False
        """Whether any worker built its scorer: then the settings are sound."""
        self._stillborn = 0
        self._fruitless = 0
        self._cut_off = 0
        self._lost_source = 0
        self._in_vain = 0
        self._refused = 0
        self._cap: tuple[int, float] | None = None

    def one_is_ready(self) -> None:
        self._stillborn, self.ever_ready = 0, True

    def one_settled(self) -> None:
        self._cut_off = self._lost_source = self._in_vain = 0

    def work_was_done(self) -> None:
        self._in_vain = 0

    def one_judged_its_first(self) -> None:
        self._fruitless = 0

    def another(self, cause: str, workers: int, ready: int) -> None:
        """A worker died, in whatever way; ``ready`` others work. Whatever else a kind of death says, no run
        hires without end.

        Args:
            workers: that the run may have at once.

        Raises:
            EngineError: too many did in a row.
        """
        self._in_vain += 1
        if not ready and self._in_vain > max(MOST_IN_VAIN, MOST_DEATHS * workers):
            raise EngineError(
                f"{self._in_vain} workers in a row died and no work was done in between, the last: {cause}; "
                "mend that and run the same command again to resume"
            )

    def stillborn(self, others: int, cause: str) -> None:
        """A worker died before it was ready; ``others`` are, or may become so, on machines to come too.

        Raises:
            EngineError: at least the third in a row, and there are no others.
        """
        self._stillborn += 1
        if self._stillborn < MOST_DEATHS:
            return
        if not others:
            raise EngineError(
                f"{self._stillborn} workers died before they were ready: {cause}; mend that and run the same "
                "command again to resume"
            )
        self._hire_no_more(others)

    def fruitless(self, others: int, cause: str) -> None:
        """A worker died after it was ready and before it judged any image, which ``others`` may yet do.

        Raises:
            EngineError: too many in a row, and there are no others.
        """
        self._fruitless += 1
        if others and self._fruitless >= MOST_DEATHS:
            self._hire_no_more(others)
        elif self._fruitless >= MOST_FRUITLESS:
            raise EngineError(
                f"{self._fruitless} workers in a row died before any of them judged an image: {cause}; mend "
                "that and run the same command again to resume"
            )

    def _hire_no_more(self, workers: int) -> None:
        """For a while: a machine may have no room for more of them, or be broken."""
        self._cap = (workers, time.monotonic() + CAP_SECONDS)

    def cut_off(self, error: Exception, others: int) -> None:
        """A worker waited in vain for a store, or cannot decode: its machine may be cut off, or broken.

        Raises:
            EngineError: several did in a row, and no other worker is ready.
        """
        self._cut_off += 1
        if self._cut_off < MOST_DEATHS:
            return
        if not others:
            raise EngineError(f"{error}; run the same command again to resume") from error
        self._hire_no_more(others)

    def lost_source(self, error: Exception, elsewhere: bool, ready: int) -> None:
        """A worker's machine does not have the collection.

        Raises:
            EngineError: there is no other machine, or several have not got it and no worker is ready.
        """
        self._lost_source += 1
        if not elsewhere or (self._lost_source >= MOST_DEATHS and not ready):
            raise EngineError(f"{error}, and run the same command again to resume") from error

    def refused(self, error: Exception, others: int) -> None:
        """A worker could not build its scorer with these settings. Where ``others``, on other machines, have
        built theirs or may still do so, it is this machine that differs: another kind of card, say.

        Raises:
            Exception: the error itself, where there are no others, or several were refused and none is ready.
        """
        self._refused += 1
        if self.ever_ready:
            return
        if not others or self._refused >= MOST_DEATHS:
            raise error
        self._hire_no_more(others)

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
