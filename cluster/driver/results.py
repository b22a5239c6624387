"""What has become of the inputs: counted, and told to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cluster.driver.deaths import DeathCounter
from cluster.driver.progress import Progress
from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import WorkerPool
from cluster.inputs.identities import unread_id
from cluster.run.layout import snapshot_path
from cluster.run.leases import MAX_DEATHS, MISSING, Lease, Leases
from cluster.run.ledger import Ledger, sign
from cluster.worker.metrics import Metrics
from cluster.worker.record_writer import Settled


class Results:
    """Of one run, on the driver."""

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
        """To be told which image an input is."""
        self.judged = 0
        """Images judged."""
        self.failed_in_a_row = 0
        """Failures since the last image that did not fail; missing ones do not count."""
        self.last_failure = ""
        self._leases = leases
        self._pool = pool
        self._ledger = ledger
        self._progress = progress
        self._metrics = metrics
        self._deaths = deaths

    def settle(self, handle: WorkerHandle, settled: Settled) -> None:
        """An image that a worker held has its record."""
        self._deaths.item_settled()
        if settled.status != "failed":
            self.failed_in_a_row = 0
        elif settled.error_class != MISSING:
            record = self._ledger.outcome(settled.image_id)
            self.note_failure(f"{record['error_class']}: {record['error_message']}")
        if settled.status == "judged":
            if not handle.judged:
                self._deaths.worker_judged()
                self._pool.works(handle)
            self.judged += 1
            handle.judged += 1
            handle.failures = 0
        inputs = self._leases.settle(handle.name, settled.number, settled.image_id)
        self._progress.settled(settled.status, len(inputs), settled.parts)

    def settle_recorded(self, handle: WorkerHandle, held: Iterable[Lease]) -> None:
        """Those of a worker's images that have a record of which it could not tell any more."""
        for lease in held:
            if lease.image_id is not None and self._ledger.has_record(lease.image_id):
                record = self._ledger.outcome(lease.image_id)
                said = str(record["status"]), record.get("error_class")
                self.settle(handle, Settled(lease.number, lease.image_id, *said))

    def fail(self, lease: Lease, numbers: list[int]) -> None:
        """The third death with the same image in hand: it is recorded as failed and let go, with all inputs
        that are that image."""
        causes = "; ".join(dict.fromkeys(lease.causes))
        said = {
            "status": "failed",
            "error_class": "WorkerDied",
            "error_message": f"{MAX_DEATHS} workers died with this image in hand: {causes}",
        }
        record = sign(said, blank=self._pool.task.blank, attempts=len(lease.causes), worker="driver")
        image_id = lease.image_id or unread_id(lease.uri)
        self.learn(lease.number, image_id)
        self._ledger.commit(image_id, record, {})
        self._ledger.store.delete(snapshot_path(image_id))
        self._metrics.settled("failed")
        self._deaths.work_done()
        self.note_failure(f"{said['error_class']}: {said['error_message']}")
        self._progress.settled("failed", len(numbers))

    def note_failure(self, cause: str) -> None:
        """An image failed, or was given back as failed."""
        self.failed_in_a_row, self.last_failure = self.failed_in_a_row + 1, cause
