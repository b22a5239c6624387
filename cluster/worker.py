"""A worker: holds one scorer, fetches its own images, commits its own records.

The work goes on in a thread of its own, so that every call from the driver is answered at once,
whatever the scorer is busy with.
"""

from __future__ import annotations

import hashlib
import os
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image

from cluster.images import Rejection, check_size, decode
from cluster.leases import Lease
from cluster.ledger import Ledger, sign
from cluster.store import NotFound, StoreError, open_store
from originality.scoring import Item, Scorer, Unusable

ScorerFactory = Callable[[], Scorer]
"""Builds a scorer where it is called; picklable."""

T = TypeVar("T")

_IDLE_SECONDS = 0.2
"""How long an idle worker waits for leases before it looks whether it should stop."""


@dataclass(frozen=True)
class Task:
    """What all workers of a run are told."""

    run: str
    """URI of the run folder."""
    source: str
    """URI of the collection."""
    factory: ScorerFactory
    blank: Mapping[str, Any]
    """Fields that every record has unless the scorer says otherwise, so that the row of a
    rejection, which no scorer ever saw, has the columns of the others."""
    memory: int = 2 * 2**30
    """Bytes that a worker on CPU takes: as many are started as there is room for."""


@dataclass(frozen=True)
class Report:
    """What happened since the last report."""

    capacity: int
    """Items that the scorer takes at once; 0 while it is being built."""
    settled: list[tuple[str, str]]
    """image_id and status of those whose record is written."""
    returned: list[str]
    """Images that were in flight together when the scorer broke: any may be guilty."""
    progress: str
    """What the scorer says of itself, for people."""


class Worker:
    """A Ray actor; also usable without Ray."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        self._source = open_store(task.source, create=False)
        self._ledger = Ledger(open_store(task.run))
        self._inbox: queue.SimpleQueue[Lease] = queue.SimpleQueue()
        self._settled: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._returned: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._flying: dict[str, Lease] = {}
        self._scorer: Scorer | None = None
        self._broken: Exception | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="scorer", daemon=True)
        self._thread.start()

    def poll(self, leases: list[Lease]) -> Report:
        """Takes leases, tells the news. Answers at once.

        Raises:
            Exception: whatever ended the work of this worker: the scorer could not be built, or
                the store is out of reach.
        """
        for lease in leases:
            self._inbox.put(lease)
        if self._broken is not None:
            raise self._broken
        return Report(
            capacity=self._scorer.capacity if self._scorer else 0,
            settled=_drain(self._settled),
            returned=_drain(self._returned),
            progress=str(getattr(self._scorer, "progress", None) or ""),
        )

    def stop(self, grace: float) -> Report:
        """Ends after the step that is under way, with what it finished committed; waits for that
        at most ``grace`` seconds. Images in flight are left to the next run."""
        self._stopping.set()
        self._thread.join(grace)
        return self.poll([])

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._scorer is None:
                    self._scorer = self._task.factory()
                self._fill(self._scorer)
                if self._flying and not self._advance(self._scorer):
                    self._scorer = None  # let go of before another one is built: memory may hold one only
        except Exception as error:
            self._broken = error

    def _fill(self, scorer: Scorer) -> None:
        """Admits what waits; blocks, for a moment, only when there is nothing else to do."""
        while len(self._flying) < scorer.capacity and not self._stopping.is_set():
            wait = 0.0 if self._flying else _IDLE_SECONDS
            try:
                lease = self._inbox.get(timeout=wait)
            except queue.Empty:
                return
            self._admit(scorer, lease)

    def _admit(self, scorer: Scorer, lease: Lease) -> None:
        try:
            scorer.admit(Item(lease.image_id, self._fetch(lease)))
        except Rejection as rejection:
            self._settle(lease, _error("rejected", rejection.reason_code, rejection.message))
        except NotFound as error:
            self._settle(lease, _error("failed", "missing", str(error)))
        except (StoreError, Unusable):
            raise  # an outage, or settings that suit no image, say nothing of this one
        except Exception as error:
            self._settle(lease, _error("failed", type(error).__name__, str(error)))
        else:
            self._flying[lease.image_id] = lease

    def _fetch(self, lease: Lease) -> Image.Image:
        check_size(lease.bytes)
        data = self._source.read(lease.path)
        if hashlib.sha256(data).hexdigest() != lease.image_id:
            raise Rejection("changed", "the file is no longer the one that was planned")
        return decode(data)

    def _advance(self, scorer: Scorer) -> bool:
        """One step; whether the scorer can go on."""
        try:
            finished = scorer.step()
        except Unusable:
            raise
        except Exception as error:
            self._blame(error)
            return False
        for done in finished:
            self._settle(self._flying.pop(done.item_id), done.record, done.files)
        return True

    def _blame(self, error: Exception) -> None:
        """A scorer that broke is not to be trusted. An image that was alone with it is the cause;
        of several, the driver finds the one by leasing each alone."""
        flying, self._flying = self._flying, {}
        if len(flying) == 1:
            (lease,) = flying.values()
            self._settle(lease, _error("failed", type(error).__name__, str(error)))
        else:
            for image_id in flying:
                self._returned.put(image_id)

    def _settle(
        self, lease: Lease, said: Mapping[str, Any], files: Mapping[str, bytes] | None = None
    ) -> None:
        def signed(said: Mapping[str, Any]) -> dict[str, Any]:
            return sign(said, blank=self._task.blank, attempts=lease.attempt, worker=self._name)

        record = signed(said)
        try:
            mine = self._ledger.commit(lease.image_id, record, files or {})
        except (TypeError, ValueError) as error:  # what the scorer said is no plain JSON
            record = signed(_error("failed", "BadRecord", str(error)))
            mine = self._ledger.commit(lease.image_id, record, {})
        if not mine:
            record = self._ledger.record(lease.image_id)
        self._settled.put((lease.image_id, str(record["status"])))


def _error(status: str, error_class: str, message: str) -> dict[str, Any]:
    return {"status": status, "error_class": error_class, "error_message": message}


def _drain(source: queue.SimpleQueue[T]) -> list[T]:
    items: list[T] = []
    while not source.empty():
        items.append(source.get())
    return items
