"""Whose fault it is that an input cannot be read: its own, or that of the machine that looked.

One machine without the share, or with other rights on it, would write off a whole collection at the speed at
which it fails to read. So what one machine cannot read, another one looks for, where there is one. An input
that is missing wherever it was looked for is recorded as such once any other input could be read since: that
shows that they are looked for in the right place. Where none can be, the run stops before any of them is
written off, as soon as so many are missing as ``cluster.stop_after_failures`` says, or when all else is done.

A folder may hold a mount of its own, and a list names any places. So an input whose folder is absent or empty
waits until all else is done; where several of one folder wait then, it is the folder that is not there, and
the run stops. A single input is believed to be missing where its folder is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import WorkerPool
from cluster.inputs.source_check import folder_of
from cluster.run.leases import MISSING, MISSING_FOLDER, Lease, Leases

MANY = 5
"""Inputs in a row that a machine could not read and another could, after which it gets no more. Also so many
may wait for another machine's look before the one that could not read them goes on."""
MAX_EXTRA_READS = MANY
"""Inputs that a worker may look for beyond its share, so that nobody waits until it has judged one."""
MAX_MACHINES_TRIED = 2
"""Machines of which none could read an input, after which it is looked for no further."""
HIRING_SECONDS = 600.0
"""For which a worker is waited for that was hired and is not ready yet."""


class ReadRetries:
    """Of one run, on the driver."""

    def __init__(self, leases: Leases, pool: WorkerPool, stop_after: int | None) -> None:
        """``stop_after``: inputs missing in a row, with none read since, that are not believed; None: all
        are."""
        self._leases = leases
        self._pool = pool
        self._stop_after = stop_after
        self._any_read = False
        """Whether an input was read since others were last believed to be missing."""
        self._ever_read = False
        """Whether an input was read in this start of the run."""
        self._have_read: set[str] = set()
        """Machines that could read an input."""
        self._blind: Counter[str] = Counter()
        """By machine: what it could not read and another one could, since it last read something."""
        self._considered: set[str] = set()
        """Machines of which it was considered whether to look elsewhere."""

    def note_read(self, handle: WorkerHandle, number: int) -> list[str]:
        """A worker has the bytes of an input. Machines that are now known not to see the inputs."""
        self._any_read = self._ever_read = True
        lease = self._leases.note_read(handle.name, number)
        here = handle.node or ""
        self._have_read.add(here)
        self._blind.pop(here, None)
        if lease is None:
            return []
        elsewhere = lease.unread_on - {here}
        self._blind.update(elsewhere)
        found = [node for node in elsewhere if self._blind[node] >= MANY]
        for node in found:
            del self._blind[node]  # it may be hired again, and is then judged anew
        return found

    def forget_failures(self) -> None:
        """Machines that did not see the inputs are tried again, as they may by now."""
        self._blind.clear()
        self._considered.clear()

    def note_unreadable(self, handle: WorkerHandle, numbers: Sequence[int], reason: str) -> None:
        """A worker could not read inputs; ``reason``: as of a lease."""
        for number in numbers:
            self._leases.note_unreadable(handle.name, number, handle.node or "", reason)

    def may_retry_read(self, handle: WorkerHandle, lease: Lease) -> bool:
        """Whether a worker's look at an input would be another machine's."""
        return len(lease.unread_on) < MAX_MACHINES_TRIED and handle.node not in lease.unread_on

    def may_take_new_inputs(self, handle: WorkerHandle) -> bool:
        """Whether a worker may go on with other inputs. Not before another machine has looked for some of
        those that its own could not read."""
        unread = self._leases.unread
        waiting = sum(
            1 for e in unread if handle.node in e.unread_on and len(e.unread_on) < MAX_MACHINES_TRIED
        )
        return waiting < MANY or not any(
            other.capacity and _takes_inputs(other) and other.node != handle.node for other in self._pool
        )

    def review(self) -> str | None:
        """Decides which inputs are looked for a last time. Why the run must stop; None if it need not."""
        unread = self._leases.unread
        if not unread:
            self._any_read = False
        if not unread or not any(handle.capacity for handle in self._pool):
            return None
        looked = self._looked_for()
        waits = len(looked) < sum(1 for lease in unread if not lease.last_read)
        nothing_else = not waits and not self._leases.others_to_read
        missing = [lease for lease in looked if lease.unread_as in (MISSING, MISSING_FOLDER)]
        of_folders = [lease for lease in missing if lease.unread_as == MISSING_FOLDER]
        if self._stop_after is not None and len(missing) >= self._stop_after and not self._any_read:
            return _stop(missing, "inputs in a row are not there")
        if self._stop_after is not None and len(of_folders) >= self._stop_after:
            return _stop(of_folders, "inputs are not there, nor anything else in their folders")
        doubted = self._doubted(missing, nothing_else)
        if doubted and nothing_else and len(doubted) == self._leases.open:  # all else is settled
            return _stop(doubted, "inputs are not there" if len(doubted) > 1 else "input is not there")
        believed = {lease.number for lease in looked} - {lease.number for lease in doubted}
        if believed:
            self._any_read = False  # it speaks for what is decided after it
            self._leases.allow_last_read(believed)
        return None

    def _doubted(self, missing: list[Lease], nothing_else: bool) -> list[Lease]:
        """What is not believed to be missing, or not yet; ``nothing_else``: whether no other input is left
        that could be read."""
        if self._stop_after is None:
            return []
        if not nothing_else:
            return [e for e in missing if e.unread_as == MISSING_FOLDER or not self._any_read]
        if not (self._ever_read or self._leases.read_before or len(missing) == 1):
            return missing
        gone = Counter(folder_of(e.uri) for e in missing if e.unread_as == MISSING_FOLDER)
        most = 1 if self._ever_read else 0
        return [e for e in missing if e.unread_as == MISSING_FOLDER and gone[folder_of(e.uri)] > most]

    def _looked_for(self) -> list[Lease]:
        """What no other machine can look for, or soon will."""
        unread = [lease for lease in self._leases.unread if not lease.last_read]
        others_may = {nodes: self._others_may(nodes) for nodes in {lease.unread_on for lease in unread}}
        return [lease for lease in unread if not others_may[lease.unread_on]]

    def _others_may(self, nodes: frozenset[str]) -> bool:
        """Whether a worker is, or may soon be, on a machine beside these."""
        now = self._pool.clock.now()
        return len(nodes) < MAX_MACHINES_TRIED and any(
            _takes_inputs(handle)
            and handle.node not in nodes
            and (handle.capacity or now - handle.hired_at < HIRING_SECONDS)
            for handle in self._pool
        )

    def machines_to_replace(self) -> list[str]:
        """Machines whose workers had better be hired elsewhere: they could read nothing so far, and nobody
        else is there to look."""
        by_node = Counter(next(iter(e.unread_on)) for e in self._looked_for() if len(e.unread_on) == 1)
        found = []
        for node, count in by_node.items():
            if node in self._have_read | self._considered:
                continue
            if count >= MANY or not self._leases.others_to_read:
                self._considered.add(node)
                if self._pool.has_other_machines(node):
                    found.append(node)
        return found


def _stop(missing: Sequence[Lease], how: str) -> str:
    """Why the run stops: these inputs are missing."""
    return (
        f"{len(missing)} {how}, the last {missing[-1].uri}; nothing is "
        "recorded of them. Mount or bring back what holds them and run the same command again to resume; if "
        "they are to be recorded as missing, start again with --set cluster.stop_after_failures=null"
    )


def _takes_inputs(handle: WorkerHandle) -> bool:
    """Whether a worker is given any at all, now or when it is ready."""
    return not (handle.leaving or handle.may_be_broken)
