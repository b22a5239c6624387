"""Fetching ahead: a worker's inputs are read, identified and decoded while its scorer is busy.

Several are read at once, so that one that comes slowly holds up no other. They are decoded one at a time, in
one child process, and the next only when there is room for the one before.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.inputs.identities import image_id_of, unread_id
from cluster.inputs.images import Limits, Rejection, check_size
from cluster.inputs.source_check import SourceCheck
from cluster.inputs.sources import WITHOUT_URI, Unreadable, read_image
from cluster.run.leases import MISSING, MISSING_FOLDER, Lease
from cluster.run.ledger import Ledger
from cluster.worker.metrics import Metrics
from cluster.worker.readers import Content, ImageReader, Reader
from cluster.worker.record_writer import RecordWriter

_MAX_PIXELS = 100_000_000
"""Decoded pixels that wait for the scorer at once (three bytes each); one image may always wait."""
_MAX_BYTES = 3 * _MAX_PIXELS
"""Of files that are read or wait to be decoded; one may always be read."""
_READERS = 4
"""Inputs that are read at once."""


@dataclass(frozen=True)
class Fetched:
    """An input ready to be judged."""

    lease: Lease
    image_id: str
    content: Content
    snapshot: bytes | None
    """Where an earlier worker left off."""


class Fetcher:
    """Takes leases, hands out images, or documents. What ends without a scorer (rejected, unreadable, judged
    already) is settled here."""

    def __init__(
        self,
        writer: RecordWriter,
        metrics: Metrics,
        news: threading.Event,
        reader: Reader | None = None,
        limits: Limits = Limits(),
        doubt: Callable[[Lease, str], None] | None = None,
        unread: Callable[[Lease, str, str], None] | None = None,
        source: SourceCheck | None = None,
    ) -> None:
        """
        Args:
            reader: of the inputs' bytes; None reads images.
            doubt: takes back an input whose decoder failed for the first time, with the cause: a machine
                that is out of memory or overloaded kills and delays decoders, too.
            unread: takes back an input that cannot be read here, as another machine may see it, with the
                reason (as of a lease) and a message. Not called for a lease's last look.
            source: checks the collection's folder or prefix.
        """
        self.read: queue.SimpleQueue[int] = queue.SimpleQueue()
        """Numbers of what could be read, whatever came of it."""
        self.identified: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        """number and image_id of what waits for the driver's word."""
        self.broken: Exception | None = None
        self._writer = writer
        self._metrics = metrics
        self._news = news
        self._limits = limits
        self._doubt = doubt
        self._unread = unread
        self._source = source or SourceCheck("")
        self._inbox: queue.SimpleQueue[Lease | None] = queue.SimpleQueue()
        self._waiting: dict[int, Fetched] = {}
        self._ready: list[Fetched] = []
        self._changed = threading.Condition()
        self._reader = reader or ImageReader(limits)
        self._turn = threading.Lock()
        """Of whoever decodes."""
        self._room = Room(_MAX_BYTES)
        self._at_work = _READERS

    def start(self, ledger: Ledger) -> None:
        """Begins to read. What comes before waits."""
        self._ledger = ledger
        for number in range(_READERS):
            threading.Thread(target=self._work, name=f"reader {number + 1}", daemon=True).start()

    def order(self, leases: Sequence[Lease], go: Sequence[int], drop: Sequence[int]) -> None:
        for lease in leases:
            self._inbox.put(lease)
        if not go and not drop:
            return
        with self._changed:
            self._ready += [self._waiting.pop(number) for number in go]
            for number in drop:
                del self._waiting[number]
            self._changed.notify_all()

    def next(self, timeout: float) -> Fetched | None:
        """An image that may be judged, after at most ``timeout`` seconds."""
        with self._changed:
            if not self._ready and timeout:
                self._changed.wait(timeout)
            if not self._ready:
                return None
            self._changed.notify_all()
            return self._ready.pop(0)

    def close(self) -> None:
        for _ in range(_READERS):
            self._inbox.put(None)

    def _work(self) -> None:
        try:
            while self.broken is None and (lease := self._inbox.get()) is not None:
                self._fetch(lease)
        except Exception as error:
            self.broken = self.broken or error
            self._news.set()
        with self._turn:
            self._at_work -= 1
            if not self._at_work:
                self._reader.close()

    def _fetch(self, lease: Lease) -> None:
        image_id = unread_id(lease.uri)
        try:
            with self._read(lease) as data:
                self.read.put(lease.number)
                image_id = image_id_of(data)
                if self._ledger.has_record(image_id):
                    self._writer.known(lease, image_id)
                    return
                snapshot = self._writer.snapshot(image_id)
                with self._turn:
                    with self._metrics.stage("decode"):
                        content = self._reader.read(data)
                    self._wait_for_room(content.pixels)
                    self._offer(Fetched(lease, image_id, content, snapshot))
        except Unreadable as error:
            self._not_read(lease, image_id, error)
        except Rejection as rejection:
            of_decoder = rejection.reason_code.startswith("decoder-")
            if of_decoder and self._doubts(lease, rejection.reason_code, rejection.message):
                return
            self._writer.fail(lease, image_id, rejection.reason_code, rejection.message, status="rejected")

    def _not_read(self, lease: Lease, image_id: str, error: Unreadable) -> None:
        """Raises:
        SourceGone: nothing can be read here, as the whole collection is not there.
        """
        if not re.match(WITHOUT_URI, lease.uri):  # of which no machine sees more than its list says
            reason = error.reason_code
            if reason == MISSING:
                self._source.check()
                reason = MISSING if self._source.has_folder_of(lease.uri) else MISSING_FOLDER
            if self._unread is not None and not lease.last_read:
                self._unread(lease, reason, error.message)
                return
        self._writer.fail(lease, image_id, error.reason_code, error.message)

    def _doubts(self, lease: Lease, reason_code: str, message: str) -> bool:
        """Whether an input is given back, as it failed for the first time."""
        if self._doubt is None or lease.attempt > 1:
            return False
        self._doubt(lease, f"{reason_code}: {message}")
        return True

    @contextmanager
    def _read(self, lease: Lease) -> Iterator[bytes]:
        """The bytes of an input, which count until they are let go of. Of one whose size is not known room is
        taken for a share, and where that was too little, for what it turned out to be.

        Raises:
            Unreadable, Rejection, MachineFault, StoreError: as of ``read_image``, or too large.
        """
        size = lease.bytes or _MAX_BYTES // _READERS
        while True:
            with self._room.taken(size) as taken:
                try:
                    with self._metrics.stage("fetch"):
                        data = read_image(lease.uri, lambda size, taken=taken: self._check(size, taken))  # type: ignore[misc]
                except _Larger as larger:
                    size = larger.size
                    continue
                yield data
                return

    def _check(self, size: int, taken: int) -> None:
        """By size alone, before a byte is fetched. An empty file is read, so that it has its true id.

        Raises:
            Rejection: it is too large.
            _Larger: it takes more room than there was taken.
        """
        if size:
            check_size(size, self._limits)
        if size > taken:
            raise _Larger(size)

    def _wait_for_room(self, pixels: int) -> None:
        """Until a decoded image may wait beside those that do."""
        with self._changed:
            while self._pixels() and self._pixels() + pixels > _MAX_PIXELS:
                self._changed.wait(1.0)

    def _offer(self, fetched: Fetched) -> None:
        number = fetched.lease.number
        with self._changed:
            if fetched.lease.image_id == fetched.image_id:  # the driver knows, and granted it as such
                self._ready.append(fetched)
                self._changed.notify_all()
                return
            self._waiting[number] = fetched
        self.identified.put((number, fetched.image_id))
        self._news.set()

    def _pixels(self) -> int:
        return sum(f.content.pixels for f in (*self._waiting.values(), *self._ready))


class _Larger(Exception):  # noqa: N818 - that is what it turned out to be
    """An input takes more room than was taken for it."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Room:
    """So many bytes, which several threads share; whoever needs more than all of them may have them alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._changed = threading.Condition()
        self._turn = threading.Lock()

    @contextmanager
    def taken(self, size: int) -> Iterator[int]:
        """Waits for the room, in turn, and gives it back."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._most)
            self._used += size
        try:
            yield size
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()
