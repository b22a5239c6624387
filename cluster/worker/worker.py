"""A worker: holds one scorer, reads its own images, and commits its own records.

Each of these has separate threads, so that the scorer never waits for a store: some read ahead and decode,
one runs the scorer, one writes. A call from the driver is answered by yet another thread, so it is answered
at once whatever the others are doing: the driver takes a silent worker for dead.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar

import ray

from cluster.inputs.source_check import SourceCheck
from cluster.inputs.sources import remember_readable
from cluster.run.leases import Lease
from cluster.run.ledger import Ledger
from cluster.storage.store import StoreError, open_store
from cluster.worker.fetching import Fetched, Fetcher
from cluster.worker.logs import log_on_node
from cluster.worker.messages import Orders, Report, Returned, Task
from cluster.worker.metrics import Metrics
from cluster.worker.preemption import PreemptionWatch
from cluster.worker.record_writer import RecordWriter
from cluster.worker.snapshots import SnapshotSchedule
from cluster.worker.watchdog import Watchdog
from originality.contract.faults import ItemFault, is_machine_fault, line_of
from originality.contract.scorer import Item, Scorer, Unusable

_log = logging.getLogger(__name__)

T = TypeVar("T")

POLL_SECONDS = 0.5
"""How long a call from the driver waits for news: the driver need not call without pause, and hears at
once."""
_MIN_WRITE_SECONDS = 3.0
"""Least time that a stop gives to the writing of what is finished, even if the last step took all the
grace."""
_IDLE_SECONDS = 0.2
"""How long an idle worker waits for an image before it checks whether it should stop."""


class Worker:
    """A worker; a Ray actor, also usable without Ray."""

    def __init__(self, task: Task) -> None:
        log_on_node(task.log_level)
        self._task = task
        self._metrics = Metrics()
        self._has_news = threading.Event()
        remember_readable(task.readable)
        name = f"{socket.gethostname()}/{os.getpid()}"
        self._writer = RecordWriter(task.blank, name, self._metrics, self._has_news)
        self.fetcher = Fetcher(
            self._writer,
            self._metrics,
            self._has_news,
            reader=task.reader(task.limits),
            limits=task.limits,
            doubt=lambda lease, cause: self._give_back([lease], cause),
            unread=lambda lease, reason, message: self._give_back([lease], message, unread_as=reason),
            source=SourceCheck(task.source, task.one_input),
        )
        """Reads and decodes the leased inputs ahead of the scorer."""
        self._returned: queue.SimpleQueue[Returned] = queue.SimpleQueue()
        self._notes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._snapshots = SnapshotSchedule(self._writer, task.snapshot_every, self._notes.put)
        self._watch = Watchdog()
        self._in_flight: dict[str, Fetched] = {}
        self._parts: dict[str, float] = {}
        self._worked = 0.0
        self._scorer: Scorer[Any] | None = None
        self._error: Exception | None = None
        self._fault: str | None = None
        """How this machine failed. The process is then never used again: some errors of a GPU stay with the
        process that met them."""
        self._answered = False
        self._stopping = threading.Event()
        self._node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else None
        self._preemption = PreemptionWatch()
        self._preemption.start()
        self._thread = threading.Thread(target=self._work, name="scorer", daemon=True)
        self._thread.start()

    def poll(self, orders: Orders, patience: float = 0.0) -> Report:
        """Take orders and return a report. Waits up to ``patience`` seconds if there is nothing to report.

        Raises:
            Exception: whatever ended this worker: the scorer could not be built, say, or the store is
                unavailable.
            Hung: a call of the scorer does not end.
        """
        self.fetcher.order(orders.leases, orders.go, orders.drop)
        self._has_news.wait(patience)
        self._has_news.clear()
        for error in (self._error, self.fetcher.error, self._writer.error):
            # The first call always gets a report, since only a report says on which machine the worker is:
            # the driver could not avoid that machine otherwise.
            if error is not None and self._answered:
                raise error
        if self._answered:
            self._watch.check()
        self._answered = True
        leaving = self._fault or self._preemption.notice
        if leaving and not self._stopping.is_set():
            _log.warning("taking no more images: %s", leaving)
            self._stopping.set()
        ended = not self._thread.is_alive()
        return Report(
            capacity=self._scorer.capacity if self._scorer else 0,
            identified=drain(self.fetcher.identified),
            settled=drain(self._writer.settled),
            read=drain(self.fetcher.read),  # last of the three, so that it contains all that they do
            returned=drain(self._returned),
            duplicates=self._writer.duplicates,
            progress=str(getattr(self._scorer, "progress", None) or ""),
            parts=list(self._parts.values()),
            worked=self._worked,
            node=self._node,
            leaving=leaving,
            failed=self._fault is not None,
            drained=ended and self._writer.idle,
            notes=drain(self._notes),
        )

    def stop(self, grace: float) -> Report:
        """Stop after the current step, for which it waits at most ``grace`` seconds.

        What is finished is committed; what is in flight is saved as snapshots, from which a resume continues.
        """
        until = time.monotonic() + grace
        self._stopping.set()
        self._thread.join(grace)
        self._writer.close(max(_MIN_WRITE_SECONDS, until - time.monotonic()))
        self.fetcher.close()
        return self.poll(Orders())

    def _work(self) -> None:
        try:
            # The store is opened here and not in __init__: that may take long or fail, and the driver must
            # hear first on which machine this worker is.
            ledger = Ledger(open_store(self._task.run))
            self._writer.start(ledger)
            self.fetcher.start(ledger)
            while not self._stopping.is_set():
                if self._scorer is None:
                    with self._watch.over("building the scorer", self._task.load_limit, "load_limit"):
                        self._scorer = self._task.factory()
                    _log.info("the scorer is ready; images at once: %d", self._scorer.capacity)
                    self._has_news.set()
                self._admit_waiting(self._scorer)
                if self._in_flight and not self._step(self._scorer):
                    self._scorer = (
                        None  # freed before the next one is built: there may be memory for only one
                    )
            if self._scorer is not None:
                self._save_snapshots(self._scorer, list(self._in_flight))
        except Exception as error:
            _log.error("this worker stops: %s", line_of(error), exc_info=error)
            if is_machine_fault(error) and not isinstance(error, StoreError):
                self._leave(error)
            else:
                self._error = error
        self._has_news.set()

    def _leave(self, error: Exception) -> None:
        """Stop this worker as its machine failed; save what is in flight as far as it can still be read."""
        self._fault = line_of(error)
        if self._scorer is not None:
            with suppress(Exception):  # a GPU that has failed may not give its memory any more
                self._save_snapshots(self._scorer, list(self._in_flight))

    def _admit_waiting(self, scorer: Scorer[Any]) -> None:
        """Admit inputs that are ready, up to the scorer's capacity. Blocks, for a moment, only if the scorer
        is idle."""
        while len(self._in_flight) < scorer.capacity and not self._stopping.is_set():
            fetched = self.fetcher.next(0.0 if self._in_flight else _IDLE_SECONDS)
            if fetched is None:
                return
            self._admit(scorer, fetched)

    def _admit(self, scorer: Scorer[Any], fetched: Fetched) -> None:
        item = Item(fetched.image_id, fetched.content.value, fetched.lease.columns)
        try:
            with self._metrics.stage("admit"), self._watched("admitting an image", [fetched]):
                resumed = fetched.snapshot is not None and _restore(scorer, item, fetched.snapshot)
                if not resumed:
                    scorer.admit(item)
        except Unusable:
            raise  # no image can be judged with these settings, so this one is not to blame
        except Exception as error:
            if is_machine_fault(error):
                self._return([fetched], line_of(error), of_machine=True)
                raise
            self._fail(fetched, error)
        else:
            _log.debug("resumed" if resumed else "admitted", extra={"image": fetched.image_id})
            self._in_flight[fetched.image_id] = fetched
            self._snapshots.begin(scorer, fetched.image_id)
            self._parts = {**self._parts, fetched.image_id: _parts_of(scorer, fetched.image_id)}

    def _step(self, scorer: Scorer[Any]) -> bool:
        """Do one step of the scorer, and commit what it finished. Whether the scorer can still be used."""
        try:
            with self._metrics.stage("step"), self._watched("a step", self._in_flight.values()):
                finished = scorer.step()
            self._metrics.gpu_memory()
            for done in finished:
                fetched = self._in_flight.pop(done.item_id)
                self._snapshots.end(done.item_id)
                self._worked += max(0.0, done.parts - self._parts.get(done.item_id, 0.0))
                self._parts = {key: parts for key, parts in self._parts.items() if key != done.item_id}
                self._metrics.counted(done.counters)
                record = {**done.record, **fetched.content.columns}
                if record.get("status") == "failed" and self._is_retried(fetched):
                    cause = f"{record.get('error_class')}: {record.get('error_message')}"
                    self._return([fetched], cause)
                else:
                    self._writer.settle(fetched.lease, done.item_id, record, done.files, parts=done.parts)
            self._count_work(scorer)
            self._save_snapshots(scorer, self._snapshots.due(scorer, self._in_flight))
        except Unusable:
            raise
        except Exception as error:
            if is_machine_fault(error):
                # No snapshots of these: the failed step may have changed a part of their state.
                flying, self._in_flight, self._parts = list(self._in_flight.values()), {}, {}
                self._return(flying, line_of(error), of_machine=True)
                raise
            self._discard_scorer(error)
            return False
        return True

    def _count_work(self, scorer: Scorer[Any]) -> None:
        parts = {image_id: _parts_of(scorer, image_id) for image_id in self._in_flight}
        self._worked += sum(
            max(0.0, parts[key] - before) for key, before in self._parts.items() if key in parts
        )
        self._parts = parts  # replaced and not changed, as poll() reads it in another thread

    def _save_snapshots(self, scorer: Scorer[Any], image_ids: Iterable[str]) -> None:
        for image_id in image_ids:
            watched = self._watched("taking a snapshot", [self._in_flight[image_id]])
            self._snapshots.take(scorer, image_id, watched)

    def _watched(self, what: str, fetched: Iterable[Fetched]) -> AbstractContextManager[None]:
        """Watch a call of the scorer with these images. Once the machine has failed, no image is a
        suspect."""
        suspects = [] if self._fault else [each.lease.number for each in fetched]
        return self._watch.over(what, self._task.step_limit, "step_limit", suspects)

    def _discard_scorer(self, error: Exception) -> None:
        """Handle an exception of a step. The scorer is not used again.

        If several images were in flight, any may be the cause: all are returned, and the driver finds it by
        leasing each of them alone.
        """
        flying, self._in_flight, self._parts = list(self._in_flight.values()), {}, {}
        images = ", ".join(each.image_id for each in flying)
        _log.warning("the scorer failed; images in flight: %s", images, exc_info=error)
        for each in flying:
            self._snapshots.end(each.image_id)
        if len(flying) == 1:
            self._fail(flying[0], error)
        else:
            self._return(flying, f"the scorer failed: {line_of(error)}")

    def _fail(self, fetched: Fetched, error: Exception) -> None:
        """Record that an image cannot be scored, or return it for a second try.

        The first failure may be this machine's fault in a way that no check foresaw, so a different worker
        tries again. An :class:`ItemFault` is certain, and is recorded at once.
        """
        _log.warning("not scored: %s", line_of(error), exc_info=error, extra={"image": fetched.image_id})
        if self._is_retried(fetched) and not isinstance(error, ItemFault):
            self._return([fetched], line_of(error))
            return
        self._writer.fail(
            fetched.lease,
            fetched.image_id,
            type(error).__name__,
            str(error),
            keep_snapshot=self._task.keep_snapshot_of_failed,
        )

    def _is_retried(self, fetched: Fetched) -> bool:
        """Whether a failure of this item is not recorded yet, but tried once more."""
        return fetched.lease.attempt == 1 and self._task.retry_failed

    def _return(self, fetched: list[Fetched], cause: str, of_machine: bool = False) -> None:
        self._give_back([each.lease for each in fetched], cause, of_machine)

    def _give_back(
        self, leases: list[Lease], cause: str, of_machine: bool = False, unread_as: str = ""
    ) -> None:
        self._returned.put(Returned([lease.number for lease in leases], cause, of_machine, unread_as))
        self._has_news.set()


def _restore(scorer: Scorer[Any], item: Item[Any], snapshot: bytes) -> bool:
    try:
        scorer.restore(item, snapshot)
    except ValueError:
        return False  # damaged, or from a different version: the item starts from the beginning
    return True


def _parts_of(scorer: Scorer[Any], item_id: str) -> float:
    parts = getattr(scorer, "parts", None)
    return float(parts(item_id)) if parts else 0.0


def drain(source: queue.SimpleQueue[T]) -> list[T]:
    """Take everything that is in a queue."""
    items: list[T] = []
    while not source.empty():
        items.append(source.get())
    return items
