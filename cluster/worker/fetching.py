"""Reads, identifies and decodes a worker's inputs ahead, while its scorer is busy.

Several inputs are read at once, so that a slow one does not delay the others. They are decoded one at a time,
in one child process, and the next one only when there is room for the decoded one before it.

An input passes these steps: lease received; bytes read; image_id known; decoded; reported to the driver as
identified, which decides whether this worker judges it; ready for the scorer. The report is skipped where the
lease already names the right image_id: the driver has granted the input as that image.
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
from cluster.inputs.locations import Broken
from cluster.inputs.source_check import SourceCheck
from cluster.inputs.sources import WITHOUT_URI, Unreadable, read_image
from cluster.run.leases import MISSING, MISSING_FOLDER, Lease
from cluster.run.ledger import Ledger
from cluster.worker.metrics import Metrics
from cluster.worker.readers import Content, ImageReader, Reader
from cluster.worker.record_writer import RecordWriter

_MAX_PIXELS = 100_000_000
"""Most decoded pixels that wait for the scorer (three bytes each). One image may always wait, whatever its
size."""
MAX_BYTES = 3 * _MAX_PIXELS
"""Most bytes of files that are read or wait to be decoded. One may always be read, whatever its size."""
READERS = 4
"""Inputs that are read at once."""


@dataclass(frozen=True)
class Fetched:
    """An input ready to be judged."""

    lease: Lease
    image_id: str
    content: Content
    snapshot: bytes | None
    """State saved by an earlier worker; None: the item starts from the beginning."""


class Fetcher:
    """Takes leases and hands out the content of their inputs. An input that needs no scorer, as it is
    rejected, unreadable or judged already, is settled here."""

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
        """Numbers of inputs that were read, whatever came of them."""
        self.identified: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        """Number and image_id of inputs that wait for the driver's decision."""
        self.error: Exception | None = None
        self._writer = writer
        self._metrics = metrics
        self._has_news = news
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
        """Held by the thread that decodes."""
        self.room = Room(MAX_BYTES)
        """Budget of bytes for the files that are read or wait to be decoded."""
        self._readers_left = READERS

    def start(self, ledger: Ledger) -> None:
        """Start reading. Leases that came before wait until then."""
        self._ledger = ledger
        for number in range(READERS):
            threading.Thread(target=self._work, name=f"reader {number + 1}", daemon=True).start()

    def order(self, leases: Sequence[Lease], go: Sequence[int], drop: Sequence[int]) -> None:
        """Take the driver's orders; see :class:`cluster.worker.messages.Orders`."""
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
        """Return an input that is ready for the scorer, after at most ``timeout`` seconds; None if there is
        none."""
        with self._changed:
            if not self._ready and timeout:
                self._changed.wait(timeout)
            if not self._ready:
                return None
            self._changed.notify_all()
            return self._ready.pop(0)

    def close(self) -> None:
        """End the threads once they have read what they have; does not wait for them."""
        for _ in range(READERS):
            self._inbox.put(None)

    def _work(self) -> None:
        try:
            while self.error is None and (lease := self._inbox.get()) is not None:
                self._fetch(lease)
        except Exception as error:
            self.error = self.error or error
            self._has_news.set()
        with self._turn:
            self._readers_left -= 1
            if not self._readers_left:
                self._reader.close()

    def _fetch(self, lease: Lease) -> None:
        image_id = unread_id(lease.uri)
        try:
            with self._read(lease) as data:
                self.read.put(lease.number)
                image_id = image_id_of(data)
                if self._ledger.has_record(image_id):
                    self._writer.report_known(lease, image_id)
                    return
                snapshot = self._writer.read_snapshot(image_id)
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
        """Return an input that could not be read, so that a different machine tries; record it in its last
        read.

        Raises:
            SourceGone: nothing can be read here, as the collection itself is not there.
        """
        # A list row without a valid URI, and what was broken when it was listed, are the same on every
        # machine, so no other one needs to try.
        same_everywhere = error.is_final or isinstance(lease.location, Broken)
        if not (same_everywhere or re.match(WITHOUT_URI, lease.uri)):
            reason = error.reason_code
            if reason == MISSING:
                self._source.check()
                reason = MISSING if self._source.has_folder_of(lease.file) else MISSING_FOLDER
            if self._unread is not None and not lease.last_read:
                self._unread(lease, reason, error.message)
                return
        self._writer.fail(lease, image_id, error.reason_code, error.message)

    def _doubts(self, lease: Lease, reason_code: str, message: str) -> bool:
        """Return an input whose decoder failed, if that was for the first time; whether it did."""
        if self._doubt is None or lease.attempt > 1:
            return False
        self._doubt(lease, f"{reason_code}: {message}")
        return True

    @contextmanager
    def _read(self, lease: Lease) -> Iterator[bytes]:
        """Yield the bytes of an input, which count towards ``MAX_BYTES`` until the context is closed.

        If the size is unknown, room for an average share is reserved first. An input that turns out to be
        larger gives that back and reserves its real size: to wait for more while holding some could deadlock
        the readers.

        Raises:
            Unreadable, Rejection, MachineFault, StoreError: as of ``read_image``, or too large.
        """
        size = lease.bytes or MAX_BYTES // READERS
        while True:
            with self.room.taken(size) as taken:
                try:
                    with self._metrics.stage("fetch"):
                        data = read_image(
                            lease.uri,
                            lambda size, taken=taken: self._check(size, taken),  # type: ignore[misc]
                            lease.location,
                        )
                except _Larger as larger:
                    size = larger.size
                    continue
                yield data
                return

    def _check(self, size: int, taken: int) -> None:
        """Check the size of an input before its bytes are fetched. An empty file passes: it is read, so that
        its image_id is the hash of its bytes.

        Raises:
            Rejection: it is too large.
            _Larger: it takes more room than was reserved.
        """
        if size:
            check_size(size, self._limits)
        if size > taken:
            raise _Larger(size)

    def _wait_for_room(self, pixels: int) -> None:
        """Wait until a decoded image of so many pixels may wait beside the others."""
        with self._changed:
            while self._pixels() and self._pixels() + pixels > _MAX_PIXELS:
                self._changed.wait(1.0)

    def _offer(self, fetched: Fetched) -> None:
        """Make an input ready for the scorer, or reports it as identified."""
        number = fetched.lease.number
        with self._changed:
            if fetched.lease.image_id == fetched.image_id:  # granted as this image: no need to ask
                self._ready.append(fetched)
                self._changed.notify_all()
                return
            self._waiting[number] = fetched
        self.identified.put((number, fetched.image_id))
        self._has_news.set()

    def _pixels(self) -> int:
        return sum(f.content.pixels for f in (*self._waiting.values(), *self._ready))


class _Larger(Exception):  # noqa: N818 - not an error: the input is read again with more room
    """An input takes more room than was reserved for it."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Room:
    """A budget of bytes that several threads share. A request that exceeds the budget is granted when nothing
    else is."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0
        """Bytes reserved now."""
        self._changed = threading.Condition()
        self._turn = threading.Lock()

    @contextmanager
    def taken(self, size: int) -> Iterator[int]:
        """Reserve room while the context is open. Requests are granted in turn, so that a large one is not
        overtaken for ever by small ones."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self.used or self.used + size <= self._limit)
            self.used += size
        try:
            yield size
        finally:
            with self._changed:
                self.used -= size
                self._changed.notify_all()
