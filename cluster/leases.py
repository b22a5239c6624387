"""Who holds which image: the driver's book, pure bookkeeping without Ray.

An image is in the queue, leased to one worker, or settled. When a worker dies, the images in its
hands go back as suspects, and a suspect is leased only to a worker that holds nothing else: so the
image that kills is alone when it kills again, and its former neighbours are cleared.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.manifest import Entry

MOST_DEATHS = 3
"""The death that ends an image's retries."""


@dataclass(frozen=True)
class Lease:
    """One image, to be judged by one worker."""

    image_id: str
    path: str
    """Within the collection."""
    bytes: int
    attempt: int = 1


class Leases:
    """All images of a run that are still to be judged."""

    def __init__(self, images: Iterable[tuple[Entry, str]]) -> None:
        """From manifest entries with their paths."""
        self._queue = deque(Lease(e.image_id, path, e.bytes) for e, path in images)
        self._held: dict[str, dict[str, Lease]] = {}
        self._deaths: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Images not settled: in the queue or leased."""
        return len(self._queue) + sum(len(held) for held in self._held.values())

    @property
    def queued(self) -> int:
        """Images that no worker holds."""
        return len(self._queue)

    def held(self, worker: str) -> list[Lease]:
        return list(self._held.get(worker, {}).values())

    def grant(self, worker: str, most: int) -> list[Lease]:
        """More leases for a worker, that it may hold up to ``most``. A suspect is leased alone."""
        mine = self._held.setdefault(worker, {})
        granted: list[Lease] = []
        while self._queue and len(mine) < most and not self._suspected(mine):
            if mine and self._deaths[self._queue[0].image_id]:
                break
            lease = self._queue.popleft()
            mine[lease.image_id] = lease
            granted.append(lease)
        return granted

    def settle(self, worker: str, image_id: str) -> None:
        """The image has its record."""
        del self._held[worker][image_id]

    def suspect(self, worker: str, image_ids: Iterable[str]) -> list[Lease]:
        """The worker died with these images in hand. They go back to the end of the queue; those
        for which it was one death too many are returned, and are settled with that."""
        condemned = []
        for image_id in image_ids:
            lease = self._held[worker].pop(image_id)
            self._deaths[image_id] += 1
            if self._deaths[image_id] >= MOST_DEATHS:
                condemned.append(lease)
            else:
                again = self._deaths[image_id] + 1
                self._queue.append(Lease(lease.image_id, lease.path, lease.bytes, again))
        return condemned

    def _suspected(self, mine: Iterable[str]) -> bool:
        return any(self._deaths[image_id] for image_id in mine)
