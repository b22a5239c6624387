"""Counts what became of the inputs, and passes it on to leases, progress and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cluster.driver.deaths import DeathCounter
from cluster.driver.progress import Progress
from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import WorkerPool
from cluster.inputs.identities import unread_id
from cluster.run.layout import snapshot_path
from cluster.run.leases import MAX_DEATHS, MISSING, Lease, Leases
from cluster.run.ledger import Ledger
from cluster.run.record import sign
from cluster.worker.metrics import Metrics
from cluster.worker.record_writer import Settled


class Results:
    """Results of one run, on the driver."""

    def __init__(
        self,
        leases: Leases,
        pool: WorkerPool,
        ledger: Ledger,
        progress: Progress,
        metrics: Metrics,
        deaths: DeathCounter,
        learn: Callable[[int, str], None],
    ) -> None:
        self.learn = learn
        """Called with an input's number and image_id when it becomes known which image the input is."""
        self.judged = 0
        """Images judged in this start of the run."""
        self.failed_in_a_row = 0
        """Failures since the last image that did not fail. Missing images do not count: they have a check of
        their own, which stops the run before any is recorded (cluster.driver.read_retries)."""
        self.last_failure = ""
        """Cause of the last of these."""
        self._leases = leases
        self._pool = pool
        self._ledger = ledger
        self._progress = progress
        self._metrics = metrics
        self._deaths = deaths

    def settle(self, handle: WorkerHandle, settled: Settled) -> None:
        """Settle an input whose image now has its record, and all inputs that are the same image."""
        self._deaths.item_settled()
        if settled.status != "failed":
            self.failed_in_a_row = 0
        elif settled.error_class != MISSING:
            record = self._ledger.outcome(settled.image_id)
            self.note_failure(f"{record['error_class']}: {record['error_message']}")
        if settled.status == "judged":
            if not handle.judged:
                self._deaths.worker_judged()
                self._pool.note_working(handle)
            self.judged += 1
            handle.judged += 1
            handle.failures = 0
        inputs = self._leases.settle(handle.name, settled.number, settled.image_id)
        self._progress.settled(settled.status, len(inputs), settled.parts)

    def settle_recorded(self, handle: WorkerHandle, held: Iterable[Lease]) -> None:
        """Settle those of a dead worker's images that have a record which it could no longer report."""
        for lease in held:
            if lease.image_id is not None and self._ledger.has_record(lease.image_id):
                record = self._ledger.outcome(lease.image_id)
                status, error_class = str(record["status"]), record.get("error_class")
                self.settle(handle, Settled(lease.number, lease.image_id, status, error_class))

    def fail(self, lease: Lease, numbers: list[int]) -> None:
        """Record an image as failed after ``MAX_DEATHS`` workers died that held it.

        The one record that the driver writes: no worker is left that could. It is created like any other, so
        a worker thought dead that still writes its own either comes first, and counts, or is dropped.

        Args:
            lease: of the image.
            numbers: of all inputs that are this image.
        """
        causes = "; ".join(dict.fromkeys(lease.causes))
        fields = {
            "status": "failed",
            "error_class": "WorkerDied",
            "error_message": f"{MAX_DEATHS} workers died while they held this image: {causes}",
        }
        record = sign(fields, blank=self._pool.task.blank, attempts=len(lease.causes), worker="driver")
        image_id = lease.image_id or unread_id(lease.uri)
        self.learn(lease.number, image_id)
        self._ledger.commit(image_id, record, {})
        self._ledger.store.delete(snapshot_path(image_id))
        self._metrics.settled("failed")
        self._deaths.work_done()
        self.note_failure(f"{fields['error_class']}: {fields['error_message']}")
        self._progress.settled("failed", len(numbers))

    def note_failure(self, cause: str) -> None:
        """Count an image that failed, or that a worker returned as failed."""
        self.failed_in_a_row, self.last_failure = self.failed_in_a_row + 1, cause
