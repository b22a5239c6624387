"""Which worker holds which input: the driver's bookkeeping, without Ray.

An input is in exactly one of four states:

- *queued*: no worker holds it. Millions of fresh inputs wait as a mere count, others as leases.
- *leased*: one worker holds it. The lease returns when the worker settles it, gives it back, fails with it,
  or dies; a lease itself has no time limit, as the driver notices every death (cluster.driver.dispatch).
- *parked*: another input that is the same image is leased. It is settled together with that one.
- *settled*: its image has a record. Settled inputs are forgotten.

Which image an input is becomes known when a worker has read it. If two inputs in flight turn out to be the
same image, only one is judged: both would compute the same record, of which only the first counts.

When a worker dies, every input that it held may be the cause. These inputs return to the queue as *suspects*,
each with the cause, and a suspect is leased only to a worker that holds nothing else. So an image that kills
workers is alone when it does so again, and its former neighbours are cleared by being judged. A suspect that
was held at ``MAX_DEATHS`` deaths is returned by :meth:`Leases.suspect` for the driver to record as failed.

An input that a worker cannot read waits in a separate queue, with the machines on which that happened, as a
different machine may be able to read it. When no further attempt is worth waiting for
(:mod:`cluster.driver.read_retries`) the driver allows a last read: the worker that gets the input then
records whatever it finds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.inputs.locations import Location, file_of

MAX_DEATHS = 3
"""Deaths, or failures, of workers that held an image, after which it is recorded as failed. The first may be
met by any neighbour in a batch or by the machine; in the second and third the image was alone."""

MISSING = "missing"
MISSING_FOLDER = "missing with its folder"
"""Why an input could not be read: it is not there; or its folder or prefix is absent or empty too."""


@dataclass(frozen=True)
class Lease:
    """One input, to be judged by one worker. Immutable: each return makes a new lease with what was
    learnt."""

    number: int
    """Position in the manifest."""
    uri: str
    bytes: int | None = None
    """Size; None if it is unknown before reading."""
    image_id: str | None = None
    """The image that it was when it was last read; None if it was never read. A file may have changed since,
    so the worker that reads it decides."""
    columns: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What the list of inputs says of it beside its uri, by column; handed to the scorer as it is. Of inputs
    that are the same image, the one read first is judged, with its columns: give all of them the same."""
    causes: tuple[str, ...] = ()
    """Why earlier leases were returned: deaths and failures of the workers that held it. An input with any is
    a suspect."""
    nodes: frozenset[str] = frozenset()
    """Ray's ids of the machines on which these happened."""
    judged_before: int = 0
    """Images that the run had judged when this input first became a suspect. If more were judged since, other
    machines work, and an error of the machine speaks against the image."""
    unread_on: frozenset[str] = frozenset()
    """Ray's ids of the machines on which it could not be read since it last was read."""
    unread_as: str = ""
    """Why it could not be read: MISSING, MISSING_FOLDER or "unreadable"; empty if it was read, or never
    tried."""
    last_read: bool = False
    """Whether the worker records it as failed if it cannot read it either, instead of returning it."""
    location: Location | None = None
    """Where its bytes are; None if it is a separate file."""

    @property
    def file(self) -> str:
        """The uri of the file in which it is: its own, or its container's."""
        return file_of(self.uri, self.location)

    @property
    def attempt(self) -> int:
        """Number of this attempt to judge it, from 1."""
        return 1 + len(self.causes)


class Leases:
    """All inputs of a run that are not settled yet."""

    def __init__(self, queue: Iterable[Lease], waiting: int, read_before: bool = False) -> None:
        """
        Args:
            queue: yields the fresh leases; consumed as they are granted, so that millions need no memory.
            waiting: how many it yields.
            read_before: whether an earlier start of the run could read any input.
        """
        self.read_before = read_before
        self._fresh = iter(queue)
        self._waiting = waiting
        self._returned: deque[Lease] = deque()
        self._unread: deque[Lease] = deque()
        """Inputs that some machine could not read."""
        self._reading: set[int] = set()
        """Numbers of leased inputs that their worker has not read yet."""
        self._held: dict[str, dict[int, Lease]] = {}
        """By worker, by number."""
        self._holder: dict[str, int] = {}
        """By image_id: the number of the leased input through which the image is judged."""
        self._parked: dict[str, list[Lease]] = {}
        """By image_id: other inputs that are this image."""

    @property
    def open(self) -> int:
        """Number of inputs that are not settled."""
        parked = sum(map(len, self._parked.values()))
        return self.queued + sum(map(len, self._held.values())) + parked

    @property
    def queued(self) -> int:
        """Number of inputs that no worker holds and that are not parked."""
        return self._waiting + len(self._returned) + len(self._unread)

    @property
    def unread(self) -> list[Lease]:
        """Queued inputs that some machine could not read."""
        return list(self._unread)

    @property
    def has_other_inputs_to_read(self) -> bool:
        """Whether any input beside the unread ones is still to be read, or being read. It may show that
        inputs can be read at all."""
        return bool(self._waiting or self._returned or self._reading)

    def holds(self, worker: str) -> bool:
        """Whether a worker holds any input."""
        return bool(self._held.get(worker))

    def held(self, worker: str) -> list[Lease]:
        """The leases that a worker holds."""
        return list(self._held.get(worker, {}).values())

    def grant(
        self,
        worker: str,
        most: int,
        suits: Callable[[Lease], bool] = lambda suspect: True,
        may_retry_read: Callable[[Lease], bool] = lambda unread: True,
        extra_reads: int = 0,
    ) -> list[Lease]:
        """Lease more inputs to a worker, until it holds ``most``.

        A suspect is leased only to a worker that holds nothing, and that worker gets nothing beside it.

        Args:
            worker: its name.
            most: inputs that it may hold.
            suits: whether the worker should try a suspect.
            may_retry_read: whether the worker may have an input that another one could not read, before the
                last attempt to read it.
            extra_reads: number of such inputs that it may hold beyond ``most``.
        """
        mine = self._held.setdefault(worker, {})
        granted: list[Lease] = []
        while len(mine) < most + extra_reads and not any(lease.causes for lease in mine.values()):
            lease = self._next_unread(may_retry_read, alone=not mine)
            if lease is None and len(mine) < most:
                lease = self._take_next(suits if not mine else None)
            if lease is None:
                break
            if lease.image_id is not None and not self._claim(lease, lease.image_id):
                continue
            mine[lease.number] = lease
            self._reading.add(lease.number)
            granted.append(lease)
        return granted

    def _next_unread(self, may_retry_read: Callable[[Lease], bool], *, alone: bool) -> Lease | None:
        """Take an unread input that the worker may try. These come before all others: until it is known
        whose fault the failure is, the machine that could not read it may fail with more inputs."""
        for lease in self._unread:
            if (alone or not lease.causes) and (lease.last_read or may_retry_read(lease)):
                self._unread.remove(lease)
                return lease
        return None

    def _take_next(self, suits: Callable[[Lease], bool] | None) -> Lease | None:
        """Take the next input: returned ones first, as they may be half done; then fresh ones; suspects
        last, so that an image that kills workers does not delay the run. ``suits`` is None for a worker that
        holds something, which gets no suspects."""
        if self._returned and not self._returned[0].causes:
            return self._returned.popleft()
        if self._waiting:
            self._waiting -= 1
            return next(self._fresh)
        suspect = next(filter(suits, self._returned), None) if suits else None
        if suspect is not None:
            self._returned.remove(suspect)
        return suspect

    def note_read(self, worker: str, number: int) -> Lease | None:
        """Note that a worker has read an input. Returns the lease as it was granted; None if the worker does
        not hold it any more."""
        self._reading.discard(number)
        lease = self._held.get(worker, {}).get(number)
        if lease is not None:
            read = replace(lease, unread_on=frozenset(), unread_as="", last_read=False)
            self._held[worker][number] = read
        return lease

    def note_unreadable(self, worker: str, number: int, node: str, reason: str) -> None:
        """Return an input that a worker on machine ``node`` could not read to the queue of unread inputs."""
        self._reading.discard(number)
        lease = self._held[worker].pop(number)
        if lease.unread_as == MISSING and reason == MISSING_FOLDER:
            reason = MISSING  # a different machine has seen its folder
        self._unread.append(replace(lease, unread_on=lease.unread_on | {node}, unread_as=reason))

    def allow_last_read(self, numbers: Collection[int]) -> None:
        """Allow the last read of unread inputs: the worker that gets them records it if it cannot read
        them."""
        self._unread = deque(
            replace(lease, last_read=True) if lease.number in numbers else lease for lease in self._unread
        )

    def identify(self, worker: str, number: int, image_id: str) -> bool:
        """Note which image an input is, after a worker has read it.

        If the input used to be a different image, the inputs that are parked behind it as that image return
        to the queue.

        Returns:
            Whether the worker shall judge it; otherwise the image is judged as another input, and this one is
            parked.
        """
        self._reading.discard(number)
        before = self._held[worker].pop(number)
        if before.image_id != image_id:
            self._returned.extendleft(reversed(self._freed(before)))
        lease = replace(before, image_id=image_id)
        if not self._claim(lease, image_id):
            return False
        self._held[worker][number] = lease
        return True

    def _claim(self, lease: Lease, image_id: str) -> bool:
        """Make an input the one through which its image is judged, or park it if another input is that
        already."""
        if self._holder.setdefault(image_id, lease.number) == lease.number:
            return True
        self._parked.setdefault(image_id, []).append(lease)
        return False

    def settle(self, worker: str, number: int, image_id: str) -> list[int]:
        """Settle an input, as the image that it turned out to be has its record.

        Returns:
            The numbers of all inputs that are settled by it. Inputs that were parked behind a different
            image, which this input used to be, return to the queue instead.
        """
        self._reading.discard(number)
        lease = self._held[worker].pop(number)
        freed = self._freed(lease)
        if lease.image_id == image_id:
            return [number, *(twin.number for twin in freed)]
        self._returned.extendleft(reversed(freed))
        return [number]

    def _freed(self, lease: Lease) -> list[Lease]:
        """Release an input's claim on its image, and return the inputs that were parked behind it."""
        if lease.image_id is None or self._holder.get(lease.image_id) != lease.number:
            return []
        del self._holder[lease.image_id]
        return self._parked.pop(lease.image_id, [])

    def give_back(self, worker: str) -> None:
        """Return all that a worker holds to the front of the queue, as the worker leaves and no image is to
        blame. Suspects go to the end."""
        for lease in self._held.pop(worker, {}).values():
            self._reading.discard(lease.number)
            if lease.unread_on:
                self._unread.appendleft(lease)
            elif lease.causes:
                self._returned.append(lease)
            else:
                self._returned.appendleft(lease)

    def suspect(
        self,
        worker: str,
        numbers: Iterable[int],
        cause: str,
        node: str | None = None,
        judged: int = 0,
        guilty: Callable[[Lease], bool] = lambda lease: True,
    ) -> list[tuple[Lease, list[int]]]:
        """Return inputs to the end of the queue as suspects, as the worker that held them died or failed.

        Args:
            worker: its name.
            numbers: of the inputs.
            cause: one line.
            node: Ray's id of its machine.
            judged: images that the run has judged so far.
            guilty: whether an input that was held at ``MAX_DEATHS`` deaths may be blamed for them.

        Returns:
            The inputs whose retries are exhausted, which are no longer leased, each with the numbers of all
            inputs that are the same image.
        """
        exhausted = []
        for number in numbers:
            self._reading.discard(number)
            lease = self._held[worker].pop(number)
            nodes = lease.nodes | {node} if node else lease.nodes
            before = lease.judged_before if lease.causes else judged
            lease = replace(lease, causes=(*lease.causes, cause), nodes=nodes, judged_before=before)
            if len(lease.causes) >= MAX_DEATHS and guilty(lease):
                exhausted.append((lease, [number, *(twin.number for twin in self._freed(lease))]))
            else:
                (self._unread if lease.unread_on else self._returned).append(lease)
        return exhausted
