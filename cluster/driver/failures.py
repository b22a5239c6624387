"""Decides whose fault it is when a worker ends or fails: its images', its machine's, or the run's as such.

Whatever ends a worker, its images go back to be leased again. What differs is
whether they count as suspects, whether the machine is avoided from then on, and whether the run may continue.

An image is only a *suspect* when a worker dies or fails with it, since its neighbours in the same batch and
the machine are possible causes too. A suspect is leased alone. It is recorded as failed when ``MAX_DEATHS``
workers died that held it (:mod:`cluster.run.leases`), and for an error of the machine only if other images
were judged meanwhile, as only that shows that the machines work.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import ray

from cluster.driver.deaths import DEATH_ERRORS, DeathCounter, cause_of
from cluster.driver.progress import Progress
from cluster.driver.resources import NoPrice
from cluster.driver.results import Results
from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import WorkerPool
from cluster.inputs.decoder import DecoderError
from cluster.inputs.source_check import SourceGone
from cluster.run.leases import Lease, Leases
from cluster.storage.store import StoreError
from cluster.worker.messages import Report, Returned
from cluster.worker.metrics import Metrics
from cluster.worker.watchdog import Hung
from originality.contract.faults import is_machine_fault, line_of
from originality.contract.scorer import Unusable


@dataclass(frozen=True)
class WorkerDeath:
    """How a worker ended that the driver did not release."""

    cause: str
    """One line."""
    blame: bool
    """Whether its images may have killed it; otherwise its machine did."""
    counts: bool = True
    """Whether it is evidence against its machine, or against all machines."""
    of_machine: bool = False
    """Whether its machine may have killed it even though its images are suspects."""
    suspects: Collection[int] | None = None
    """Numbers of the suspects among its inputs; None: all of them."""
    foreseen: bool = False
    """Whether its machine was announced to be taken away, or may not be used. That may happen any number of
    times, so it does not count towards the end of the run."""


class FailureHandler:
    """Handles the ends and failures of workers of one run, on the driver."""

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
        """Handle an answer that says that the worker, or its work, has ended.

        Raises:
            EngineError: more than this worker is affected, and the run cannot continue.
            Unusable: the settings suit no image, on any machine.
        """
        if isinstance(error, DEATH_ERRORS):
            self.remove(handle, self._death_of(handle, error))
        elif isinstance(error, SourceGone):
            self._lost_source(handle, error)
        elif isinstance(error, StoreError | DecoderError):
            self._unreachable(handle, error)
        elif isinstance(error, Unusable):
            if handle.capacity:
                raise error  # its scorer was built, so the settings are the cause
            self._deaths.scorer_refused(error, self.others_elsewhere(handle, handle.node))
            self.remove(handle, WorkerDeath(str(error), blame=False))
        elif isinstance(error, Hung):
            self.remove(
                handle, WorkerDeath(line_of(error), blame=bool(error.suspects), suspects=error.suspects)
            )
        else:
            self.remove(handle, WorkerDeath(line_of(error), blame=not is_machine_fault(error)))

    def _death_of(self, handle: WorkerHandle, death: Exception) -> WorkerDeath:
        # Not a fault of the images where the machine itself went away: the cloud announced it, or Ray
        # noticed.
        foreseen = handle.leaving or bool(getattr(death, "preempted", False))
        expected = foreseen or not self._pool.is_alive(handle.node)
        if expected and not foreseen:
            self._pool.note_lost_machine(handle)
        return WorkerDeath(
            cause_of(death),
            blame=not expected,
            counts=handle.failed or not expected,
            of_machine=isinstance(death, ray.exceptions.OutOfMemoryError),
            foreseen=foreseen and not handle.failed,
        )

    def _unreachable(self, handle: WorkerHandle, error: Exception) -> None:
        """Remove a worker that gave up on a store, or cannot decode: its machine may be broken."""
        self.remove(handle, WorkerDeath(str(error), blame=False, counts=False))
        self._pool.note_machine_failure(handle.node)
        self._deaths.unreachable(error, len(self._pool.ready))

    def _lost_source(self, handle: WorkerHandle, error: SourceGone) -> None:
        """Remove the workers of a machine that does not have the collection, which was listed elsewhere.

        Raises:
            EngineError: there is no other machine, or several lack it.
        """
        elsewhere = self._pool.may_get_other_machine(handle.node) or self.others_elsewhere(
            handle, handle.node
        )
        self.quit_machine(handle.node or "", str(error))
        self._deaths.lost_source(error, bool(elsewhere), len(self._pool.ready))

    def remove(self, handle: WorkerHandle, death: WorkerDeath) -> None:
        """Remove a dead worker, and return its leases to the queue.

        Raises:
            EngineError: too many workers died before they judged anything.
        """
        self._deaths.total += 1
        self._metrics.worker_died()
        self._progress.show(f"a worker died: {death.cause}", now=True)
        self._pool.release(handle)
        # The worker may have committed records that it could not report any more. Those images are done, and
        # must not be suspected.
        self._results.settle_recorded(handle, self._leases.held(handle.name))
        if death.blame:
            held = [lease.number for lease in self._leases.held(handle.name)]
            numbers = [n for n in held if death.suspects is None or n in death.suspects]
            self._suspect(handle, numbers, death.cause, of_machine=death.of_machine)
        self._leases.give_back(handle.name)
        if not death.foreseen:
            self._deaths.any_kind(death.cause, self._pool.max_workers, len(self._pool.ready))
        if death.counts and not handle.judged:
            self._note_unproductive(handle, death)
        elif death.counts and not death.blame:
            self._pool.note_machine_failure(handle.node)

    def quit_machine(self, node: str, cause: str) -> None:
        """Remove all workers on a machine that cannot read the inputs, and hire on others."""
        self._pool.avoid_failed_machine(node)
        for handle in self._pool:
            if handle.node == node:
                self.remove(handle, WorkerDeath(cause, blame=False, counts=False, foreseen=True))

    def handle_returned(self, handle: WorkerHandle, returned: Returned) -> None:
        """Handle inputs that a worker returned because they failed in its scorer."""
        self._suspect(handle, returned.numbers, returned.cause, of_machine=returned.of_machine)
        self._results.note_failure(returned.cause)
        if not handle.failures:
            handle.others_judged = self._results.judged
        handle.failures += 1

    def is_broken(self, handle: WorkerHandle) -> bool:
        """Whether this worker is broken: its images fail in a row, and other workers judged theirs since."""
        return handle.may_be_broken and self._results.judged > handle.others_judged

    def remove_broken(self, handle: WorkerHandle) -> None:
        """Remove a worker in which one image after the other fails. Its images are not suspects."""
        last = self._results.last_failure
        cause = f"{handle.failures} images in a row failed here, and none elsewhere: {last}"
        self.remove(handle, WorkerDeath(cause, blame=False))

    def leaves(self, handle: WorkerHandle, report: Report) -> None:
        """Handle a worker that must leave: it gets no more leases, and is released once it has drained."""
        if not handle.leaving:
            handle.leaving, handle.failed = True, report.failed
            if report.failed:
                self._progress.show(f"a worker's machine failed: {report.leaving}", now=True)
            else:
                self._progress.show(f"a worker leaves: {report.leaving}", now=True)
                self._pool.avoid_leaving_machine(handle.node)
        if report.drained and report.failed:
            self.remove(handle, WorkerDeath(str(report.leaving), blame=False))
        elif report.drained:
            self._leases.give_back(handle.name)
            self._pool.release(handle)

    def may_stay(self, handle: WorkerHandle, node: str) -> bool:
        """Check the machine that a worker was placed on, and remove the worker if it may not stay.

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
        """Count the workers that are, or may yet start, on other machines than ``node``."""
        may = self._pool.has_other_machines(node)
        others = (m for m in self._pool if m is not handle)
        return sum(1 for m in others if (m.node != node if m.answered else may))

    def _note_unproductive(self, handle: WorkerHandle, death: WorkerDeath) -> None:
        """Count the death of a worker that had judged nothing."""
        if not death.blame:
            self._pool.avoid_failed_machine(handle.node)
        died = self._deaths.died_before_judging if handle.capacity else self._deaths.died_before_ready
        may = self._pool.may_get_other_machine(handle.node)
        died(sum(1 for m in self._pool if m.answered or may), death.cause)

    def _suspect(
        self, handle: WorkerHandle, numbers: list[int], cause: str, *, of_machine: bool = False
    ) -> None:
        """Mark inputs as suspects, and record those as failed that were suspects too often."""
        open_inputs = self._leases.open
        judged = self._results.judged

        def guilty(lease: Lease) -> bool:
            # An error of the machine speaks against an image only if some machine has shown that it works:
            # other images were judged since the image's first failure. The last open image has no others
            # beside it, so for it any image judged before counts. Without this rule one broken GPU, alone
            # in a run, would fail every image of the collection.
            return not of_machine or judged > (lease.judged_before if open_inputs > 1 else 0)

        exhausted = self._leases.suspect(
            handle.name, numbers, cause, handle.node, judged=judged, guilty=guilty
        )
        for lease, settled in exhausted:
            self._results.fail(lease, settled)
