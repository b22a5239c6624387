"""Counts the deaths of workers, and decides when they mean more than that one worker died."""

from __future__ import annotations

import time
from typing import Any

import ray

from cluster.ray_runtime.runtime import EngineError
from cluster.run.leases import MAX_DEATHS
from cluster.worker.messages import Report

DEATH_ERRORS = (
    ray.exceptions.RayActorError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
)
"""Ray's exceptions by which a worker's process, or its machine, is gone."""

MAX_UNPRODUCTIVE_DEATHS = 10
"""Consecutive deaths of workers that had judged nothing, after which a run ends. More than ``MAX_DEATHS``:
the first images of a collection may all kill workers, and each needs that many deaths to be found guilty."""

MAX_DEATHS_WITHOUT_WORK = 20
"""Consecutive deaths of any kind, with no work done in between and no worker ready, after which a run ends.
Three for each worker that the run may have, if that is more."""

CAP_SECONDS = 600.0
"""For how long no more workers are hired than there are, after several died before they did anything."""


class DeathCounter:
    """Counts consecutive deaths by kind. Several of one kind in a row are not an accident.

    Each counter is reset by what disproves it: a worker that becomes ready shows that scorers can be built,
    a first image judged shows that images can be judged.
    """

    def __init__(self) -> None:
        self.total = 0
        self.ever_ready = False
        """Whether any worker built its scorer, which shows that the settings are valid."""
        self._died_before_ready = 0
        self._died_before_judging = 0
        self._unreachable = 0
        self._lost_source = 0
        self._without_work = 0
        self._refused = 0
        self._cap: tuple[int, float] | None = None
        """Most workers, and the monotonic time until which this holds."""

    def worker_ready(self) -> None:
        """A worker has built its scorer."""
        self._died_before_ready, self.ever_ready = 0, True

    def item_settled(self) -> None:
        """An item has its record."""
        self._unreachable = self._lost_source = self._without_work = 0

    def work_done(self) -> None:
        """A worker made progress on an item."""
        self._without_work = 0

    def worker_judged(self) -> None:
        """A worker judged its first image."""
        self._died_before_judging = 0

    def any_kind(self, cause: str, workers: int, ready: int) -> None:
        """Count a death of any kind. Whatever the other counters say, this one ends a run that would hire
        for ever.

        Args:
            cause: one line, of this death.
            workers: that the run may have at once.
            ready: other workers that are ready.

        Raises:
            EngineError: there were too many in a row.
        """
        self._without_work += 1
        if not ready and self._without_work > max(MAX_DEATHS_WITHOUT_WORK, MAX_DEATHS * workers):
            raise EngineError(
                f"{self._without_work} workers in a row died and no work was done in between, the last: "
                f"{cause}; fix that and run the same command again to resume"
            )

    def died_before_ready(self, others: int, cause: str) -> None:
        """Count a worker that died before its scorer was built.

        Args:
            others: workers that are ready or may become so, on machines still to come too.
            cause: one line.

        Raises:
            EngineError: it is at least the third in a row, and there are no others.
        """
        self._died_before_ready += 1
        if self._died_before_ready < MAX_DEATHS:
            return
        if not others:
            raise EngineError(
                f"{self._died_before_ready} workers died before they were ready: {cause}; fix that and run "
                "the same command again to resume"
            )
        self._cap_hiring(others)

    def died_before_judging(self, others: int, cause: str) -> None:
        """Count a worker that died after it was ready and before it judged any image.

        Args:
            others: workers that may yet judge one.
            cause: one line.

        Raises:
            EngineError: there were too many in a row, and there are no others.
        """
        self._died_before_judging += 1
        if others and self._died_before_judging >= MAX_DEATHS:
            self._cap_hiring(others)
        elif self._died_before_judging >= MAX_UNPRODUCTIVE_DEATHS:
            raise EngineError(
                f"{self._died_before_judging} workers in a row died before any of them judged an image: "
                f"{cause}; fix that and run the same command again to resume"
            )

    def _cap_hiring(self, workers: int) -> None:
        """Hire no more than this many for a while: a machine may have no room for more, or be broken."""
        self._cap = (workers, time.monotonic() + CAP_SECONDS)

    def unreachable(self, error: Exception, others: int) -> None:
        """Count a worker that gave up on a store, or that cannot decode images.

        One such worker may be on a machine that is cut off, or broken; several in a row, with no other worker
        ready, mean that the store itself is unavailable.

        Raises:
            EngineError: there were several in a row, and no other worker is ready.
        """
        self._unreachable += 1
        if self._unreachable < MAX_DEATHS:
            return
        if not others:
            raise EngineError(f"{error}; run the same command again to resume") from error
        self._cap_hiring(others)

    def lost_source(self, error: Exception, elsewhere: bool, ready: int) -> None:
        """Count a worker whose machine does not have the collection, say because a mount is missing.

        Args:
            error: what the worker found.
            elsewhere: whether there is, or may come, another machine.
            ready: other workers that are ready.

        Raises:
            EngineError: there is no other machine, or several lack it and no worker is ready.
        """
        self._lost_source += 1
        if not elsewhere or (self._lost_source >= MAX_DEATHS and not ready):
            raise EngineError(f"{error}, and run the same command again to resume") from error

    def scorer_refused(self, error: Exception, others: int) -> None:
        """Count a worker that could not build its scorer with these settings.

        Where others, on different machines, have built theirs or may still do so, this machine is what
        differs: it has a different kind of GPU, say.

        Raises:
            Exception: the error itself, where there are no others, or several workers were refused and none
                was ever ready.
        """
        self._refused += 1
        if self.ever_ready:
            return
        if not others or self._refused >= MAX_DEATHS:
            raise error
        self._cap_hiring(others)

    def capped(self, limit: int) -> int:
        """The number of workers to have now, of at most ``limit``."""
        if self._cap and time.monotonic() < self._cap[1]:
            return min(limit, self._cap[0])
        return limit


def report_of(reference: Any, timeout: float | None = None) -> Report:
    """Return the report that a worker answered.

    Args:
        reference: to the answer.
        timeout: in seconds; None waits.

    Raises:
        Exception: whatever ended the worker, or its work; one raised inside the worker comes as itself.
    """
    try:
        return ray.get(reference, timeout=timeout)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def cause_of(death: Exception) -> str:
    """One line of Ray's many: where the worker's constructor raised, its exception; else the first line."""
    lines = [line.strip() for line in str(death).splitlines() if line.strip()]
    if not lines:
        return type(death).__name__
    return lines[-1] if "creation task" in lines[0] else lines[0]
