"""A worker's writer: writes what there is to write, in order, in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from cluster.run.layout import snapshot_path
from cluster.run.leases import Lease
from cluster.run.ledger import Ledger, sign
from cluster.storage.store import NotFound
from cluster.worker.metrics import Metrics

_MAX_QUEUED_WRITES = 64
"""Writes that may wait; then the scorer does."""


class Settled(NamedTuple):
    """An input whose image has its record."""

    number: int
    image_id: str
    status: str
    error_class: str | None
    """Reason code where there is no verdict."""
    parts: float = 0.0
    """Parts of work that it took here; see originality.contract.scorer."""


class RecordWriter:
    """Commits records and keeps snapshots."""

    def __init__(self, blank: Mapping[str, Any], name: str, metrics: Metrics, news: threading.Event) -> None:
        self.settled: queue.SimpleQueue[Settled] = queue.SimpleQueue()
        """What has its record."""
        self.duplicates = 0
        """Records that came too late, as the image had one."""
        self.broken: Exception | None = None
        self._blank = blank
        self._name = name
        self._metrics = metrics
        self._news = news
        self._work: queue.Queue[Callable[[], None]] = queue.Queue(_MAX_QUEUED_WRITES)
        self._snapshots: dict[str, bytes] = {}
        self._kept: set[str] = set()
        self._thread = threading.Thread(target=self._write, name="writer", daemon=True)
        self._closing = threading.Event()

    def start(self, ledger: Ledger) -> None:
        """Begins to write. What comes before waits."""
        self._ledger = ledger
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether all is written."""
        return self._work.unfinished_tasks == 0

    def settle(
        self,
        lease: Lease,
        image_id: str,
        said: Mapping[str, Any],
        files: Mapping[str, bytes],
        keeps: bool = False,
        parts: float = 0.0,
    ) -> None:
        """Commits a record with its artefacts, and lets go of the image's snapshot unless it ``keeps`` it."""
        self._put(lambda: self._commit(lease, image_id, said, files, keeps, parts))

    def fail(
        self,
        lease: Lease,
        image_id: str,
        error_class: str,
        message: str,
        status: str = "failed",
        keeps: bool = False,
    ) -> None:
        """Commits that there is no verdict, and why."""
        self.settle(lease, image_id, _error(status, error_class, message), {}, keeps)

    def known(self, lease: Lease, image_id: str) -> None:
        """The image had its record before it was read here."""
        self._put(lambda: self._tell(lease, image_id))

    def keep(self, image_id: str, snapshot: bytes) -> None:
        """Keeps the state of an image in flight. A later one takes the place of one not written yet."""
        self._snapshots[image_id] = snapshot
        self._put(lambda: self._keep(image_id))

    def snapshot(self, image_id: str) -> bytes | None:
        """What an earlier worker kept."""
        try:
            kept = self._ledger.store.read(snapshot_path(image_id))
        except NotFound:
            return None
        self._kept.add(image_id)
        return kept

    def close(self, grace: float) -> None:
        """Waits, at most ``grace`` seconds, until all is written."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(grace)

    def _put(self, job: Callable[[], None]) -> None:
        while self.broken is None:
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
                self.broken = error
                self._news.set()
                return
            finally:
                self._work.task_done()

    def _keep(self, image_id: str) -> None:
        snapshot = self._snapshots.pop(image_id, None)
        if snapshot is not None:
            self._kept.add(image_id)
            self._ledger.store.write(snapshot_path(image_id), snapshot)
            if self._ledger.has_record(image_id):  # by another, while this process was suspended
                self._ledger.store.delete(snapshot_path(image_id))

    def _commit(
        self,
        lease: Lease,
        image_id: str,
        said: Mapping[str, Any],
        files: Mapping[str, bytes],
        keeps: bool,
        parts: float,
    ) -> None:
        self._snapshots.pop(image_id, None)
        record = self._signed(lease, said)
        try:
            mine = self._ledger.commit(image_id, record, files)
        except (TypeError, ValueError) as error:  # what the scorer said is no plain JSON
            record = self._signed(lease, _error("failed", "BadRecord", str(error)))
            mine = self._ledger.commit(image_id, record, {})
        if image_id in self._kept and not keeps:
            self._ledger.store.delete(snapshot_path(image_id))
            self._kept.remove(image_id)
        if mine:
            self._metrics.settled(str(record["status"]))
            self._settled(lease, image_id, record, parts)
        else:
            self.duplicates += 1
            self._metrics.duplicate()
            self._tell(lease, image_id)

    def _tell(self, lease: Lease, image_id: str) -> None:
        self._settled(lease, image_id, self._ledger.outcome(image_id))

    def _settled(self, lease: Lease, image_id: str, record: Mapping[str, Any], parts: float = 0.0) -> None:
        status, error_class = str(record["status"]), record.get("error_class")
        self.settled.put(Settled(lease.number, image_id, status, error_class, parts))
        self._news.set()

    def _signed(self, lease: Lease, said: Mapping[str, Any]) -> dict[str, Any]:
        return sign(said, blank=self._blank, attempts=lease.attempt, worker=self._name)


def _error(status: str, error_class: str, message: str) -> dict[str, Any]:
    return {"status": status, "error_class": error_class, "error_message": message}
