"""Decide whose fault it is that an input cannot be read: its own, or that of the machine that tried.

A machine without the network share, or with other permissions on it, would write off a collection as fast as
it fails to read. So an input that one machine cannot read is tried on a different machine, if there is one.
An input that is missing on every machine where it was tried is recorded as missing once any other input was
read since: that shows that the run looks in the right place. If none can be read, the run stops before any of
them is recorded: as soon as as many are missing as ``cluster.stop_after_failures`` says, or when all else is
done.

A folder of the collection may be a separate mount, and a list may name any places. So an input whose folder
is absent or empty waits until all else is done. If several inputs of that folder wait then, the folder itself
is considered unavailable, and the run stops. A single input counts as missing if its folder is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import WorkerPool
from cluster.inputs.source_check import folder_of
from cluster.run.leases import MISSING, MISSING_FOLDER, Lease, Leases

MANY = 5
"""Inputs in a row that a machine could not read and a different one could, after which it gets no more. Also
the most inputs that may wait for a different machine before the one that could not read them gets new
ones."""
MAX_EXTRA_READS = MANY
"""Inputs that a worker may be given to read beyond what it may hold, so that a retry of a read does not wait
until the worker has judged an image."""
MAX_MACHINES_TRIED = 2
"""Machines that could not read an input, after which it is not tried on another."""
HIRING_SECONDS = 600.0
"""For how long a hired worker that is not ready yet is waited for, as its machine may read the input."""


class ReadRetries:
    """Unread inputs and the machines that tried them, of one run, on the driver.

    An input counts as missing, or as unreadable, only when a worker records it so in its *last read*: it is
    granted with ``Lease.last_read`` set, and whatever that worker finds is recorded. Until then a worker that
    cannot read an input returns it.
    """

    def __init__(self, leases: Leases, pool: WorkerPool, stop_after: int | None) -> None:
        """``stop_after``: the number of inputs missing in a row, with none read since, at which the run stops
        instead of recording them; None: never."""
        self._leases = leases
        self._pool = pool
        self._stop_after = stop_after
        self._any_read = False
        """Whether an input was read since others were last accepted as missing. Reset at each acceptance: a
        read before it says nothing of a share that was unmounted after it."""
        self._ever_read = False
        """Whether an input was read in this start of the run."""
        self._have_read: set[str] = set()
        """Machines that could read an input."""
        self._blind: Counter[str] = Counter()
        """By machine: how many inputs it could not read and a different one could, since it last read one."""
        self._replacement_considered: set[str] = set()
        """Machines for which a replacement was considered already."""

    def note_read(self, handle: WorkerHandle, number: int) -> list[str]:
        """Note that a worker has read an input; return the machines now known to be unable to read
        inputs."""
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
            del self._blind[node]  # it may be hired on again later, and then starts with a count of 0
        return found

    def forget_failures(self) -> None:
        """Forget which machines could not read inputs, as they may be able to by now."""
        self._blind.clear()
        self._replacement_considered.clear()

    def note_unreadable(self, handle: WorkerHandle, numbers: Sequence[int], reason: str) -> None:
        """Note that a worker could not read inputs; ``reason`` as in ``Lease.unread_as``."""
        for number in numbers:
            self._leases.note_unreadable(handle.name, number, handle.node or "", reason)

    def may_retry_read(self, handle: WorkerHandle, lease: Lease) -> bool:
        """Whether a worker is on a machine on which an unread input should be tried."""
        return len(lease.unread_on) < MAX_MACHINES_TRIED and handle.node not in lease.unread_on

    def may_take_new_inputs(self, handle: WorkerHandle) -> bool:
        """Whether a worker may be given new inputs. Not while many that its machine could not read wait for a
        different machine: it may fail on all others too."""
        unread = self._leases.unread
        waiting = sum(
            1 for e in unread if handle.node in e.unread_on and len(e.unread_on) < MAX_MACHINES_TRIED
        )
        return waiting < MANY or not any(
            other.capacity and _takes_inputs(other) and other.node != handle.node for other in self._pool
        )

    def review(self) -> str | None:
        """Decide which inputs are read a last time; returns why the run must stop, or None."""
        unread = self._leases.unread
        if not unread:
            self._any_read = False
        if not unread or not any(handle.capacity for handle in self._pool):
            return None
        tried = self._tried_everywhere()
        waits = len(tried) < sum(1 for lease in unread if not lease.last_read)
        nothing_else = not waits and not self._leases.has_other_inputs_to_read
        missing = [lease for lease in tried if lease.unread_as in (MISSING, MISSING_FOLDER)]
        of_folders = [lease for lease in missing if lease.unread_as == MISSING_FOLDER]
        if self._stop_after is not None and len(missing) >= self._stop_after and not self._any_read:
            return _stop(missing, "inputs in a row were not found")
        if self._stop_after is not None and len(of_folders) >= self._stop_after:
            return _stop(of_folders, "inputs were not found, nor anything else in their folders")
        unconfirmed = self._unconfirmed(missing, nothing_else)
        if unconfirmed and nothing_else and len(unconfirmed) == self._leases.open:  # all else is settled
            what = "inputs were not found" if len(unconfirmed) > 1 else "input was not found"
            return _stop(unconfirmed, what)
        accepted = {lease.number for lease in tried} - {lease.number for lease in unconfirmed}
        if accepted:
            self._any_read = False
            self._leases.allow_last_read(accepted)
        return None

    def _unconfirmed(self, missing: list[Lease], nothing_else: bool) -> list[Lease]:
        """Return those inputs that are not accepted as missing, or not yet.

        Args:
            missing: inputs that were not there when tried.
            nothing_else: whether no other input is left that could still be read.
        """
        if self._stop_after is None:
            return []
        if not nothing_else:
            return [e for e in missing if e.unread_as == MISSING_FOLDER or not self._any_read]
        if not (self._ever_read or self._leases.read_before or len(missing) == 1):
            return missing
        gone = Counter(folder_of(e.file) for e in missing if e.unread_as == MISSING_FOLDER)
        most = 1 if self._ever_read else 0
        return [e for e in missing if e.unread_as == MISSING_FOLDER and gone[folder_of(e.file)] > most]

    def _tried_everywhere(self) -> list[Lease]:
        """Unread inputs that no other machine can try, now or soon."""
        unread = [lease for lease in self._leases.unread if not lease.last_read]
        others_may = {nodes: self._others_may_read(nodes) for nodes in {lease.unread_on for lease in unread}}
        return [lease for lease in unread if not others_may[lease.unread_on]]

    def _others_may_read(self, nodes: frozenset[str]) -> bool:
        """Whether a worker is, or may soon be, on a machine other than these."""
        now = self._pool.clock.now()
        return len(nodes) < MAX_MACHINES_TRIED and any(
            _takes_inputs(handle)
            and handle.node not in nodes
            and (handle.capacity or now - handle.hired_at < HIRING_SECONDS)
            for handle in self._pool
        )

    def machines_to_replace(self) -> list[str]:
        """Return machines whose workers should be replaced by workers on other machines: they have read
        nothing so far, and no worker elsewhere can try their inputs."""
        by_node = Counter(next(iter(e.unread_on)) for e in self._tried_everywhere() if len(e.unread_on) == 1)
        found = []
        for node, count in by_node.items():
            if node in self._have_read | self._replacement_considered:
                continue
            if count >= MANY or not self._leases.has_other_inputs_to_read:
                self._replacement_considered.add(node)
                if self._pool.has_other_machines(node):
                    found.append(node)
        return found


def _stop(missing: Sequence[Lease], how: str) -> str:
    """The message with which the run stops as these inputs are missing."""
    return (
        f"{len(missing)} {how}, the last {missing[-1].uri}; nothing was "
        "recorded of them. Mount or restore their folder or bucket and run the same command again to resume; "
        "to record them as missing, start again with --set cluster.stop_after_failures=null"
    )


def _takes_inputs(handle: WorkerHandle) -> bool:
    """Whether a worker is given inputs at all, now or once it is ready."""
    return not (handle.leaving or handle.may_be_broken)
