"""Who holds which input: the driver's book, pure bookkeeping without Ray.

An input is in the queue, leased to one worker, parked, or settled. Which image it is comes to light when a
worker has read it: if another input in some worker's hands is the same image, it is parked until that one
is settled, and settled with it. When a worker dies, the inputs in its hands go back as suspects, and a
suspect is leased only to a worker that holds nothing else: so the image that kills is alone when it kills
again, and its former neighbours are cleared.

An input that a worker cannot read waits apart, with the machines on which that was so: another one may see
it. The driver says when no further look is worth waiting for (:mod:`cluster.driver.read_retries`); whoever
gets the input then records what it finds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MAX_DEATHS = 3
"""The death that ends an image's retries."""

MISSING = "missing"
MISSING_FOLDER = "missing with its folder"
"""Why an input could not be read: it is not there, and its folder or prefix is absent or empty too."""


@dataclass(frozen=True)
class Lease:
    """One input, to be judged by one worker."""

    number: int
    """Within the manifest."""
    uri: str
    bytes: int | None = None
    """None where it is not known before reading."""
    image_id: str | None = None
    """What it was when it was last read; None while nobody has read it."""
    columns: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What the list of inputs says of it beside its uri, by column; handed to the scorer as it is. Of inputs
    that are the same image, the one read first is judged, with its columns: give all of them the same."""
    causes: tuple[str, ...] = ()
    """Why it was given back by workers that had it: their deaths and failures."""
    nodes: frozenset[str] = frozenset()
    """Ray's ids of the machines on which that happened."""
    judged_before: int = 0
    """Images that the run had judged when it was given back for the first time."""
    unread_on: frozenset[str] = frozenset()
    """Ray's ids of the machines on which it could not be read since it last could be."""
    unread_as: str = ""
    """Why not: MISSING, MISSING_FOLDER or "unreadable"."""
    last_read: bool = False
    """Whether the worker records it as failed if it cannot read it either."""

    @property
    def attempt(self) -> int:
        return 1 + len(self.causes)


class Leases:
    """All inputs of a run that are still to be settled. Millions wait as numbers only."""

    def __init__(self, queue: Iterable[Lease], waiting: int, read_before: bool = False) -> None:
        """``queue``: makes the leases, when they are needed; ``waiting``: how many it will make;
        ``read_before``: whether an earlier start of the run could read any input."""
        self.read_before = read_before
        self._fresh = iter(queue)
        self._waiting = waiting
        self._again: deque[Lease] = deque()
        self._unread: deque[Lease] = deque()
        """What some machine could not read."""
        self._reading: set[int] = set()
        """Numbers of inputs with a worker that has not read them yet."""
        self._held: dict[str, dict[int, Lease]] = {}
        self._holder: dict[str, int] = {}
        """image_id to the number of the input by which it is judged."""
        self._parked: dict[str, list[Lease]] = {}

    @property
    def open(self) -> int:
        """Inputs not settled."""
        parked = sum(map(len, self._parked.values()))
        return self.queued + sum(map(len, self._held.values())) + parked

    @property
    def queued(self) -> int:
        """Inputs that no worker holds and that wait for no other."""
        return self._waiting + len(self._again) + len(self._unread)

    @property
    def unread(self) -> list[Lease]:
        """Queued inputs that some machine could not read."""
        return list(self._unread)

    @property
    def others_to_read(self) -> bool:
        """Whether any other input is still to be read, or being read: one that may be found where these
        were not."""
        return bool(self._waiting or self._again or self._reading)

    def holds(self, worker: str) -> bool:
        return bool(self._held.get(worker))

    def held(self, worker: str) -> list[Lease]:
        return list(self._held.get(worker, {}).values())

    def grant(
        self,
        worker: str,
        most: int,
        suits: Callable[[Lease], bool] = lambda suspect: True,
        may_retry_read: Callable[[Lease], bool] = lambda unread: True,
        looks: int = 0,
    ) -> list[Lease]:
        """More leases for a worker, that it may hold up to ``most``. A suspect is leased alone, and only
        where it ``suits``.

        Args:
            may_retry_read: whether the worker may have an input that another one could not read, before the
                last attempt to read it.
            looks: such inputs that it may hold beyond ``most``.
        """
        mine = self._held.setdefault(worker, {})
        granted: list[Lease] = []
        while len(mine) < most + looks and not any(lease.causes for lease in mine.values()):
            lease = self._next_unread(may_retry_read, alone=not mine)
            if lease is None and len(mine) < most:
                lease = self._next(suits if not mine else None)
            if lease is None:
                break
            if lease.image_id is not None and not self._claim(lease, lease.image_id):
                continue
            mine[lease.number] = lease
            self._reading.add(lease.number)
            granted.append(lease)
        return granted

    def _next_unread(self, may_retry_read: Callable[[Lease], bool], *, alone: bool) -> Lease | None:
        """What another worker could not read, before all else: until it is known whose fault that is, the
        other's machine may fail with more."""
        for lease in self._unread:
            if (alone or not lease.causes) and (lease.last_read or may_retry_read(lease)):
                self._unread.remove(lease)
                return lease
        return None

    def _next(self, suits: Callable[[Lease], bool] | None) -> Lease | None:
        """What was given back first, as it may be half done; then fresh inputs; last the suspects, and
        these only to a worker with nothing else (``suits`` is None for one that has something)."""
        if self._again and not self._again[0].causes:
            return self._again.popleft()
        if self._waiting:
            self._waiting -= 1
            return next(self._fresh)
        suspect = next(filter(suits, self._again), None) if suits else None
        if suspect is not None:
            self._again.remove(suspect)
        return suspect

    def note_read(self, worker: str, number: int) -> Lease | None:
        """A worker has the bytes of an input. The lease as it was granted; None if it is not the worker's."""
        self._reading.discard(number)
        lease = self._held.get(worker, {}).get(number)
        if lease is not None:
            read = replace(lease, unread_on=frozenset(), unread_as="", last_read=False)
            self._held[worker][number] = read
        return lease

    def note_unreadable(self, worker: str, number: int, node: str, reason: str) -> None:
        """A worker on a node could not: the input waits for another look."""
        self._reading.discard(number)
        lease = self._held[worker].pop(number)
        if lease.unread_as == MISSING and reason == MISSING_FOLDER:
            reason = MISSING  # another machine sees its folder
        self._unread.append(replace(lease, unread_on=lease.unread_on | {node}, unread_as=reason))

    def allow_last_read(self, numbers: Collection[int]) -> None:
        """Of what could not be read: whoever gets these records it, if it cannot read them either."""
        self._unread = deque(
            replace(lease, last_read=True) if lease.number in numbers else lease for lease in self._unread
        )

    def identify(self, worker: str, number: int, image_id: str) -> bool:
        """What a worker has read. Whether it is to go on; otherwise the input is parked, as the image is
        in hand already. Those that were parked behind what the input used to be come again."""
        self._reading.discard(number)
        before = self._held[worker].pop(number)
        if before.image_id != image_id:
            self._again.extendleft(reversed(self._freed(before)))
        lease = replace(before, image_id=image_id)
        if not self._claim(lease, image_id):
            return False
        self._held[worker][number] = lease
        return True

    def _claim(self, lease: Lease, image_id: str) -> bool:
        if self._holder.setdefault(image_id, lease.number) == lease.number:
            return True
        self._parked.setdefault(image_id, []).append(lease)
        return False

    def settle(self, worker: str, number: int, image_id: str) -> list[int]:
        """The image that the input turned out to be has its record; the numbers of all inputs that are
        settled with it. Those that were parked behind another image come again."""
        self._reading.discard(number)
        lease = self._held[worker].pop(number)
        freed = self._freed(lease)
        if lease.image_id == image_id:
            return [number, *(twin.number for twin in freed)]
        self._again.extendleft(reversed(freed))
        return [number]

    def _freed(self, lease: Lease) -> list[Lease]:
        """Gives up the claim on an image; the inputs that waited for it."""
        if lease.image_id is None or self._holder.get(lease.image_id) != lease.number:
            return []
        del self._holder[lease.image_id]
        return self._parked.pop(lease.image_id, [])

    def give_back(self, worker: str) -> None:
        """The worker leaves, through no image's fault: all that it holds is leased anew, soon."""
        for lease in self._held.pop(worker, {}).values():
            self._reading.discard(lease.number)
            if lease.unread_on:
                self._unread.appendleft(lease)
            elif lease.causes:
                self._again.append(lease)
            else:
                self._again.appendleft(lease)

    def suspect(
        self,
        worker: str,
        numbers: Iterable[int],
        cause: str,
        node: str | None = None,
        judged: int = 0,
        guilty: Callable[[Lease], bool] = lambda lease: True,
    ) -> list[tuple[Lease, list[int]]]:
        """The worker died or failed, on a node, with these inputs. They go back to the end of the queue;
        those for which it was one too many are returned, each with all inputs that are settled with it.

        Args:
            judged: images that the run has judged so far.
            guilty: whether an input that was there so often may be the cause.
        """
        condemned = []
        for number in numbers:
            self._reading.discard(number)
            lease = self._held[worker].pop(number)
            nodes = lease.nodes | {node} if node else lease.nodes
            before = lease.judged_before if lease.causes else judged
            lease = replace(lease, causes=(*lease.causes, cause), nodes=nodes, judged_before=before)
            if len(lease.causes) >= MAX_DEATHS and guilty(lease):
                condemned.append((lease, [number, *(twin.number for twin in self._freed(lease))]))
            else:
                (self._unread if lease.unread_on else self._again).append(lease)
        return condemned
