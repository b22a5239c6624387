"""Decides which inputs, and how many, a worker is granted."""

from __future__ import annotations

from cluster.driver.read_retries import MAX_EXTRA_READS, ReadRetries
from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import WorkerPool
from cluster.run.leases import Lease, Leases

PREFETCH = 2
"""Leases beyond a scorer's capacity, so that a worker refills a lane without waiting for the driver."""
PREFETCH_SECONDS = 1.0
"""A fast scorer gets as many as it settles in this time, if that is more."""


class LeaseGranter:
    """Grants leases to the workers of one run, on the driver."""

    def __init__(self, leases: Leases, pool: WorkerPool, read_retries: ReadRetries) -> None:
        self._leases = leases
        self._pool = pool
        self._read_retries = read_retries

    def grant(self, handle: WorkerHandle) -> list[Lease]:
        """Lease a worker the inputs that it gets with its next call."""
        ready = [m for m in self._pool if m.capacity and not m.leaving]
        sound = [m for m in ready if not m.failures]
        if handle.may_be_broken and sound:
            # Wait until others have judged their images: that shows whether this worker or the images fail.
            return []
        # Workers that have judged an image are preferred for suspects: one that replaces a dead worker may be
        # on the same broken machine.
        proven = [m for m in sound if m.judged] or sound[:1] or ready[:1]

        def suits(suspect: Lease) -> bool:
            """Whether this worker should try a suspect: it must have judged others, and be on a machine where
            the suspect did not fail yet, if there is such a worker. Otherwise a broken machine might get the
            same image three times, which would then be recorded as failed."""
            elsewhere = [m for m in proven if m.node not in suspect.nodes]
            return any(m is handle for m in elsewhere or proven)

        def may_retry_read(unread: Lease) -> bool:
            return self._read_retries.may_retry_read(handle, unread)

        share = self._max_held(handle)
        if not share or self._read_retries.may_take_new_inputs(handle):
            return self._leases.grant(
                handle.name, share, suits, may_retry_read, MAX_EXTRA_READS if share else 0
            )
        return self._leases.grant(handle.name, 0, suits, may_retry_read, share + MAX_EXTRA_READS)

    def _max_held(self, handle: WorkerHandle) -> int:
        """Return how many inputs a worker may hold.

        That is its capacity, and some more in advance while there are enough for all workers. Near the end of
        a run there are none in advance: an input that waits behind a busy worker could be with an idle one.
        """
        if not handle.capacity:
            return 0
        ahead = max(PREFETCH, round(handle.rate * PREFETCH_SECONDS))
        enough = (handle.capacity + ahead) * len(self._pool)
        return handle.capacity + (ahead if self._leases.queued > enough else 0)
