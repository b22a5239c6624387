"""Workers that do not come up: one that has its machine and never answers would be waited for without end.

A worker that has no machine yet is another matter: on a cluster that grows it may take as long as it likes.
"""

from __future__ import annotations

from cluster.driver.member import Member
from cluster.driver.workers import Crew
from cluster.ray_runtime import ray_health

START_SECONDS = 600.0
"""For which a worker that has a process on a machine may not answer: a slow disk may hold up its imports."""
_LOOK_SECONDS = 10.0
"""Between two questions to Ray, which workers have a machine."""


class Starts:
    """Of one run, on the driver."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._looked_at = crew.clock.now()

    def overdue(self) -> list[tuple[Member, str]]:
        """Workers that have had a machine for too long without a word, each with the machine's id.

        Raises:
            EngineError: Ray's head does not answer.
        """
        now = self._crew.clock.now()
        starting = [member for member in self._crew if member.answer is not None and not member.answered]
        if not starting or now - self._looked_at < _LOOK_SECONDS:
            return []
        self._looked_at = now
        machines = ray_health.machines_of_actors()
        found = []
        for member in starting:
            node = machines.get(member.actor._actor_id.hex())
            if node is None:
                member.placed_at = None
            elif member.placed_at is None:
                member.placed_at = now
            elif now - member.placed_at >= START_SECONDS:
                found.append((member, node))
        return found
