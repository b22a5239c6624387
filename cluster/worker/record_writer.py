"""Writes a worker's records and snapshots, in order, in one thread.

The order matters: a snapshot that waits to be written is dropped when its image's record is committed, and
one that was written before is deleted after it, so no snapshot outlives the record.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from cluster.run.layout import snapshot_path
from cluster.run.leases import Lease
from cluster.run.ledger import Ledger
from cluster.run.record import sign
from cluster.storage.store import NotFound
from cluster.worker.metrics import Metrics

_log = logging.getLogger(__name__)

_MAX_QUEUED_WRITES = 64
"""Most writes that may wait; beyond these the scorer waits for the store."""


class Settled(NamedTuple):
    """An input whose image has its record."""

    number: int
    image_id: str
    status: str
    error_class: str | None
    """Reason code; None if there is a verdict."""
    parts: float = 0.0
    """Parts of work that it took in this worker; see :class:`originality.contract.scorer.Scorer`."""


class RecordWriter:
    """Commits records and saves snapshots."""

    def __init__(self, blank: Mapping[str, Any], name: str, metrics: Metrics, news: threading.Event) -> None:
        self.settled: queue.SimpleQueue[Settled] = queue.SimpleQueue()
        """Inputs whose image has its record, to be reported to the driver."""
        self.duplicates = 0
        """Records that were dropped, as the image had one already."""
        self.error: Exception | None = None
        self._blank = blank
        self._name = name
        self._metrics = metrics
        self._has_news = news
        self._work: queue.Queue[Callable[[], None]] = queue.Queue(_MAX_QUEUED_WRITES)
        self._snapshots: dict[str, bytes] = {}
        self._saved: set[str] = set()
        self._thread = threading.Thread(target=self._write, name="record writer", daemon=True)
        self._closing = threading.Event()

    def start(self, ledger: Ledger) -> None:
        """Start writing. What was handed in before waits until then."""
        self._ledger = ledger
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether everything handed in is written."""
        return self._work.unfinished_tasks == 0

    def settle(
        self,
        lease: Lease,
        image_id: str,
        fields: Mapping[str, Any],
        files: Mapping[str, bytes],
        keep_snapshot: bool = False,
        parts: float = 0.0,
    ) -> None:
        """Commit a record with its artefacts, then delete the image's snapshot unless ``keep_snapshot``."""
        self._put(lambda: self._commit(lease, image_id, fields, files, keep_snapshot, parts))

    def fail(
        self,
        lease: Lease,
        image_id: str,
        error_class: str,
        message: str,
        status: str = "failed",
        keep_snapshot: bool = False,
    ) -> None:
        """Commit a record that says why there is no verdict."""
        self.settle(lease, image_id, _error(status, error_class, message), {}, keep_snapshot)

    def report_known(self, lease: Lease, image_id: str) -> None:
        """Report an input whose image had its record before this worker read it."""
        self._put(lambda: self._report_known(lease, image_id))

    def save_snapshot(self, image_id: str, snapshot: bytes) -> None:
        """Save the state of an image in flight. Replaces an earlier snapshot that is not written yet."""
        self._snapshots[image_id] = snapshot
        self._put(lambda: self._save_snapshot(image_id))

    def read_snapshot(self, image_id: str) -> bytes | None:
        """Read the snapshot that an earlier worker saved; None if there is none."""
        try:
            snapshot = self._ledger.store.read(snapshot_path(image_id))
        except NotFound:
            return None
        self._saved.add(image_id)
        return snapshot

    def close(self, grace: float) -> None:
        """Stop once everything is written; wait for that at most ``grace`` seconds."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(grace)

    def _put(self, job: Callable[[], None]) -> None:
        while self.error is None:
            with suppress(queue.Full):
                self._work.put(job, timeout=0.5)
                return

    def _write(self) -> None:
        while not (self._closing.is_set() and self._work.empty()):
            try:
                job = self._work.get(timeout=0.1)
            except queue.Empty:
                continue
            try:
                with self._metrics.stage("commit"):
                    job()
            except Exception as error:
                self.error = error
                self._has_news.set()
                return
            finally:
                self._work.task_done()

    def _save_snapshot(self, image_id: str) -> None:
        snapshot = self._snapshots.pop(image_id, None)
        if snapshot is not None:
            self._saved.add(image_id)
            self._ledger.store.write(snapshot_path(image_id), snapshot)
            # This process may have been suspended while another worker judged the image and deleted its
            # snapshot. Checked after the write: a check before it could be outdated by the time of the write.
            if self._ledger.has_record(image_id):
                self._ledger.store.delete(snapshot_path(image_id))

    def _commit(
        self,
        lease: Lease,
        image_id: str,
        fields: Mapping[str, Any],
        files: Mapping[str, bytes],
        keep_snapshot: bool,
        parts: float,
    ) -> None:
        self._snapshots.pop(image_id, None)
        record = self._signed(lease, fields)
        try:
            counts = self._ledger.commit(image_id, record, files)
        except (TypeError, ValueError) as error:  # the scorer's record is not plain JSON
            record = self._signed(lease, _error("failed", "BadRecord", str(error)))
            counts = self._ledger.commit(image_id, record, {})
        if image_id in self._saved and not keep_snapshot:
            self._ledger.store.delete(snapshot_path(image_id))
            self._saved.remove(image_id)
        if counts:
            self._metrics.settled(str(record["status"]))
            _log_outcome(image_id, record)
            self._settled(lease, image_id, record, parts)
        else:
            self.duplicates += 1
            self._metrics.duplicate()
            self._report_known(lease, image_id)

    def _report_known(self, lease: Lease, image_id: str) -> None:
        self._settled(lease, image_id, self._ledger.outcome(image_id))

    def _settled(self, lease: Lease, image_id: str, record: Mapping[str, Any], parts: float = 0.0) -> None:
        status, error_class = str(record["status"]), record.get("error_class")
        self.settled.put(Settled(lease.number, image_id, status, error_class, parts))
        self._has_news.set()

    def _signed(self, lease: Lease, fields: Mapping[str, Any]) -> dict[str, Any]:
        return sign(fields, blank=self._blank, attempts=lease.attempt, worker=self._name)


def _log_outcome(image_id: str, record: Mapping[str, Any]) -> None:
    status = str(record["status"])
    cause = [str(record[name]) for name in ("error_class", "error_message") if record.get(name)]
    level = logging.WARNING if status == "failed" else logging.INFO
    _log.log(level, "%s", ": ".join([status, *cause]), extra={"image": image_id})


def _error(status: str, error_class: str, message: str) -> dict[str, Any]:
    return {"status": status, "error_class": error_class, "error_message": message}
