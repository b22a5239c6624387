"""Finds workers that do not start: one that has a machine and never answers would block the run for ever.

A worker that has no machine yet is not overdue: on a cluster that grows, a machine may take any time to come.
"""

from __future__ import annotations

from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import WorkerPool
from cluster.ray_runtime import ray_health

START_SECONDS = 600.0
"""For how long a worker that has a process on a machine may give no answer: a slow disk delays its
imports."""
_LOOK_SECONDS = 10.0
"""Between two requests to Ray for which workers have a machine."""


class StartupMonitor:
    """Watches the workers of one run that have not answered yet, on the driver."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._looked_at = pool.clock.now()

    def overdue(self) -> list[tuple[WorkerHandle, str]]:
        """Return the workers that have had a machine for too long without an answer, each with its machine's
        id. Asks Ray at most every few seconds, and returns none in between.

        Raises:
            EngineError: Ray's head does not answer.
        """
        now = self._pool.clock.now()
        starting = [handle for handle in self._pool if handle.answer is not None and not handle.answered]
        if not starting or now - self._looked_at < _LOOK_SECONDS:
            return []
        self._looked_at = now
        machines = ray_health.machines_of_actors()
        found = []
        for handle in starting:
            node = machines.get(handle.actor._actor_id.hex())
            if node is None:
                handle.placed_at = None
            elif handle.placed_at is None:
                handle.placed_at = now
            elif now - handle.placed_at >= START_SECONDS:
                found.append((handle, node))
        return found
