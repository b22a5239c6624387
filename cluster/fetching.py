"""Fetching ahead: a worker's inputs are read, identified and decoded while its scorer is busy."""

from __future__ import annotations

import json
import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from cluster.decoder import Decoder
from cluster.desk import Desk
from cluster.identities import image_id_of, unread_id
from cluster.images import NOTE, Limits, Rejection, check_size
from cluster.leases import Lease
from cluster.ledger import Ledger
from cluster.metrics import Metrics
from cluster.source_check import SourceCheck
from cluster.sources import WITHOUT_URI, Unreadable, read_image

_MOST_PIXELS = 100_000_000
"""Decoded pixels that wait for the scorer at once (three bytes each); one image may always wait."""


@dataclass(frozen=True)
class Fetched:
    """An input ready to be judged."""

    lease: Lease
    image_id: str
    content: Image.Image | dict[str, Any]
    """An image, or a document."""
    snapshot: bytes | None
    """Where an earlier worker left off."""

    @property
    def pixels(self) -> int:
        image = self.content
        return image.width * image.height if isinstance(image, Image.Image) else 0

    @property
    def remarks(self) -> dict[str, str]:
        """Columns of the image's row that its file is the reason for."""
        image = self.content
        return {NOTE: image.info[NOTE]} if isinstance(image, Image.Image) and NOTE in image.info else {}


class Fetcher:
    """Takes leases, hands out images, or documents. What ends without a scorer (rejected, unreadable, judged
    already) is settled here."""

    def __init__(
        self,
        ledger: Ledger,
        desk: Desk,
        metrics: Metrics,
        news: threading.Event,
        documents: bool = False,
        limits: Limits = Limits(),
        doubt: Callable[[Lease, str], None] | None = None,
        unread: Callable[[Lease, Unreadable], None] | None = None,
        source: str = "",
    ) -> None:
        """``doubt``: takes back an input whose decoder failed for the first time, with the cause: a machine
        that is out of memory or overloaded kills and delays decoders, too. ``unread``: takes back one that
        cannot be read here, as it may be elsewhere; but for the last look. ``source``: the collection's
        folder or prefix, as of :class:`SourceCheck`."""
        self.read: queue.SimpleQueue[int] = queue.SimpleQueue()
        """Numbers of what could be read, whatever came of it."""
        self.identified: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        """number and image_id of what waits for the driver's word."""
        self.broken: Exception | None = None
        self._ledger = ledger
        self._desk = desk
        self._metrics = metrics
        self._news = news
        self._documents = documents
        self._limits = limits
        self._doubt = doubt
        self._unread = unread
        self._source = SourceCheck(source)
        self._inbox: queue.SimpleQueue[Lease | None] = queue.SimpleQueue()
        self._waiting: dict[int, Fetched] = {}
        self._ready: list[Fetched] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="fetcher", daemon=True).start()

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
        self._inbox.put(None)

    def _work(self) -> None:
        try:
            with Decoder(self._limits) as decoder:
                while (lease := self._inbox.get()) is not None:
                    self._fetch(decoder, lease)
        except Exception as error:
            self.broken = error
            self._news.set()

    def _fetch(self, decoder: Decoder, lease: Lease) -> None:
        image_id = unread_id(lease.uri)
        try:
            with self._metrics.stage("fetch"):
                data = read_image(lease.uri, self._not_too_large)
            self.read.put(lease.number)
            image_id = image_id_of(data)
            if self._ledger.has_record(image_id):
                self._desk.known(lease, image_id)
                return
            with self._metrics.stage("decode"):
                content = _document(data) if self._documents else decoder.decode(data)
        except Unreadable as error:
            self._not_read(lease, image_id, error)
        except Rejection as rejection:
            of_decoder = rejection.reason_code.startswith("decoder-")
            if self._doubt is not None and of_decoder and lease.attempt == 1:
                self._doubt(lease, f"{rejection.reason_code}: {rejection.message}")
                return
            self._desk.fail(lease, image_id, rejection.reason_code, rejection.message, status="rejected")
        else:
            self._offer(Fetched(lease, image_id, content, self._desk.snapshot(image_id)))

    def _not_read(self, lease: Lease, image_id: str, error: Unreadable) -> None:
        """Raises:
        SourceGone: nothing can be read here, as the whole collection is not there.
        """
        if re.match(WITHOUT_URI, lease.uri):  # no machine sees more than its list says
            self.read.put(lease.number)
        else:
            if error.reason_code == "missing":
                self._source.check()
            if self._unread is not None and not lease.last_look:
                self._unread(lease, error)
                return
        self._desk.fail(lease, image_id, error.reason_code, error.message)

    def _not_too_large(self, size: int) -> None:
        """By size alone, before a byte is fetched. An empty file is read, so that it has its true id."""
        if size:
            check_size(size, self._limits)

    def _offer(self, fetched: Fetched) -> None:
        number = fetched.lease.number
        with self._changed:
            while self._pixels() and self._pixels() + fetched.pixels > _MOST_PIXELS:
                self._changed.wait(1.0)
            if fetched.lease.image_id == fetched.image_id:  # the driver knows, and granted it as such
                self._ready.append(fetched)
                self._changed.notify_all()
                return
            self._waiting[number] = fetched
        self.identified.put((number, fetched.image_id))
        self._news.set()

    def _pixels(self) -> int:
        return sum(f.pixels for f in (*self._waiting.values(), *self._ready))


def _document(data: bytes) -> dict[str, Any]:
    """Raises:
    Rejection: it is no JSON object.
    """
    try:
        return dict(json.loads(data).items())
    except (ValueError, AttributeError) as error:
        raise Rejection("corrupt", f"no JSON object: {error}") from error
