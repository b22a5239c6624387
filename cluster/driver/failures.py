"""Whose fault it is when a worker ends or fails: its images', its machine's, or everybody's.

DESIGN section 5 has the rule. Each end of a worker puts its images back; what differs is whether they count
as suspects, whether its machine is avoided, and whether the run may go on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import ray

from cluster.driver.deaths import DEATH_ERRORS, DeathCounter, cause_of
from cluster.driver.progress import Progress
from cluster.driver.results import Results
from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import NoPrice, WorkerPool
from cluster.inputs.decoder import DecoderError
from cluster.inputs.source_check import SourceGone
from cluster.run.leases import Lease, Leases
from cluster.storage.store import StoreError
from cluster.worker.metrics import Metrics
from cluster.worker.watchdog import Hung
from cluster.worker.worker import Report, Returned
from originality.contract.faults import is_machine_fault, line_of
from originality.contract.scorer import Unusable


@dataclass(frozen=True)
class WorkerDeath:
    """The end of a worker that did not come by the driver's wish."""

    cause: str
    blame: bool
    """Whether its images may be what killed it; else its machine is."""
    counts: bool = True
    """Whether it says something of its machine, or of all of them."""
    of_machine: bool = False
    """Whether its machine may be what killed it even though the images are to blame."""
    suspects: Collection[int] | None = None
    """Numbers of those of its images that are to blame; None: of all."""
    foreseen: bool = False
    """Whether its machine was to be taken away, or may not be used: that happens as often as it likes."""


class FailureHandler:
    """Of one run, on the driver."""

    def __init__(
        self,
        leases: Leases,
        pool: WorkerPool,
        results: Results,
        deaths: DeathCounter,
        progress: Progress,
        metrics: Metrics,
    ) -> None:
        self._leases = leases
        self._pool = pool
        self._results = results
        self._deaths = deaths
        self._progress = progress
        self._metrics = metrics

    def ended(self, handle: WorkerHandle, error: Exception) -> None:
        """A worker's answer was that it, or its work, has ended.

        Raises:
            EngineError: it is not this worker alone.
            Unusable: nor is it the machine.
        """
        if isinstance(error, DEATH_ERRORS):
            self.remove(handle, self._death_of(handle, error))
        elif isinstance(error, SourceGone):
            self._lost_source(handle, error)
        elif isinstance(error, StoreError | DecoderError):
            self._unreachable(handle, error)
        elif isinstance(error, Unusable):
            if handle.capacity:
                raise error  # the scorer was built, and its settings suit no image
            self._deaths.scorer_refused(error, self.others_elsewhere(handle, handle.node))
            self.remove(handle, WorkerDeath(str(error), blame=False))
        elif isinstance(error, Hung):
            self.remove(
                handle, WorkerDeath(line_of(error), blame=bool(error.suspects), suspects=error.suspects)
            )
        else:
            self.remove(handle, WorkerDeath(line_of(error), blame=not is_machine_fault(error)))

    def _death_of(self, handle: WorkerHandle, death: Exception) -> WorkerDeath:
        foreseen = handle.leaving or bool(getattr(death, "preempted", False))
        expected = foreseen or not self._pool.is_alive(handle.node)
        if expected and not foreseen:
            self._pool.lost(handle)
        return WorkerDeath(
            cause_of(death),
            blame=not expected,
            counts=handle.failed or not expected,
            of_machine=isinstance(death, ray.exceptions.OutOfMemoryError),
            foreseen=foreseen and not handle.failed,
        )

    def _unreachable(self, handle: WorkerHandle, error: Exception) -> None:
        """A worker waited in vain for a store, or cannot decode: its machine may be cut off, or broken."""
        self.remove(handle, WorkerDeath(str(error), blame=False, counts=False))
        self._pool.note_machine_failure(handle.node)
        self._deaths.unreachable(error, len(self._pool.ready))

    def _lost_source(self, handle: WorkerHandle, error: SourceGone) -> None:
        """A worker's machine does not have the collection, which was listed elsewhere.

        Raises:
            EngineError: there is no other machine, or several have not got it.
        """
        elsewhere = self._pool.may_get_other_machine(handle.node) or self.others_elsewhere(
            handle, handle.node
        )
        self.quit_machine(handle.node or "", str(error))
        self._deaths.lost_source(error, bool(elsewhere), len(self._pool.ready))

    def remove(self, handle: WorkerHandle, death: WorkerDeath) -> None:
        """Puts a dead worker's images back.

        Raises:
            EngineError: too many workers died before they judged anything.
        """
        self._deaths.total += 1
        self._metrics.worker_died()
        self._progress.show(f"a worker died: {death.cause}", now=True)
        self._pool.release(handle)
        self._results.settle_recorded(handle, self._leases.held(handle.name))
        if death.blame:
            held = [lease.number for lease in self._leases.held(handle.name)]
            numbers = [n for n in held if death.suspects is None or n in death.suspects]
            self._suspect(handle, numbers, death.cause, of_machine=death.of_machine)
        self._leases.give_back(handle.name)
        if not death.foreseen:
            self._deaths.any_kind(death.cause, self._pool.most, len(self._pool.ready))
        if death.counts and not handle.judged:
            self._note_unproductive(handle, death)
        elif death.counts and not death.blame:
            self._pool.note_machine_failure(handle.node)

    def quit_machine(self, node: str, cause: str) -> None:
        """Lets go of all workers on a machine that does not see the inputs, and hires elsewhere."""
        self._pool.avoid_failed_machine(node)
        for handle in self._pool:
            if handle.node == node:
                self.remove(handle, WorkerDeath(cause, blame=False, counts=False, foreseen=True))

    def gave_back(self, handle: WorkerHandle, returned: Returned) -> None:
        """A worker gave inputs back as failed."""
        self._suspect(handle, returned.numbers, returned.cause, of_machine=returned.of_machine)
        self._results.note_failure(returned.cause)
        if not handle.failures:
            handle.others_judged = self._results.judged
        handle.failures += 1

    def is_broken(self, handle: WorkerHandle) -> bool:
        """Whether it is this worker whose images fail, as others judged theirs since."""
        return handle.may_be_broken and self._results.judged > handle.others_judged

    def remove_broken(self, handle: WorkerHandle) -> None:
        last = self._results.last_failure
        cause = f"{handle.failures} images in a row failed here, and none elsewhere: {last}"
        self.remove(handle, WorkerDeath(cause, blame=False))

    def leaves(self, handle: WorkerHandle, report: Report) -> None:
        """A worker that must leave takes nothing more, and is let go when all that it finished is written."""
        if not handle.leaving:
            handle.leaving, handle.failed = True, report.failed
            if report.failed:
                self._progress.show(f"a worker's machine failed: {report.leaving}", now=True)
            else:
                self._progress.show(f"a worker leaves: {report.leaving}", now=True)
                self._pool.avoid(handle.node)
        if report.drained and report.failed:
            self.remove(handle, WorkerDeath(str(report.leaving), blame=False))
        elif report.drained:
            self._leases.give_back(handle.name)
            self._pool.release(handle)

    def may_stay(self, handle: WorkerHandle, node: str) -> bool:
        """Whether a worker may stay on the machine that it got.

        Raises:
            NoPrice: the machine has no price, the cost is bounded, and there is no other worker.
        """
        try:
            self._pool.place(handle, node)
        except NoPrice as error:
            if not self.others_elsewhere(handle, node):
                raise
            self.remove(handle, WorkerDeath(str(error), blame=False, counts=False, foreseen=True))
            return False
        if self._pool.is_repeatedly_lost(handle) and self._pool.may_get_other_machine(node):
            self._pool.avoid_failed_machine(node)
            cause = f"the machine {handle.address} was lost several times, and is avoided"
            self.remove(handle, WorkerDeath(cause, blame=False, counts=False, foreseen=True))
            return False
        return True

    def others_elsewhere(self, handle: WorkerHandle, node: str | None) -> int:
        """Workers on other machines that are ready, or building their scorers, or may start on one."""
        may = self._pool.has_other_machines(node)
        others = (m for m in self._pool if m is not handle)
        return sum(1 for m in others if (m.node != node if m.answered else may))

    def _note_unproductive(self, handle: WorkerHandle, death: WorkerDeath) -> None:
        """A worker died before it judged anything."""
        if not death.blame:
            self._pool.avoid_failed_machine(handle.node)
        died = self._deaths.died_before_judging if handle.capacity else self._deaths.died_before_ready
        may = self._pool.may_get_other_machine(handle.node)
        died(sum(1 for m in self._pool if m.answered or may), death.cause)

    def _suspect(
        self, handle: WorkerHandle, numbers: list[int], cause: str, *, of_machine: bool = False
    ) -> None:
        open_inputs = self._leases.open
        judged = self._results.judged

        def guilty(lease: Lease) -> bool:
            """An error of the machine speaks against an image only if others were judged since its first
            one, or before it where it is the last that is left: else it may be the only card, and broken."""
            return not of_machine or judged > (lease.judged_before if open_inputs > 1 else 0)

        found = self._leases.suspect(handle.name, numbers, cause, handle.node, judged=judged, guilty=guilty)
        for lease, settled in found:
            self._results.fail(lease, settled)
