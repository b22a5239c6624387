"""Whether a collection's folder or prefix is there at all, on this machine.

Where it is not (a share that is not mounted, a folder that was moved, a bucket of that name elsewhere), no
image in it can be found, and none is to blame.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from cluster.sources import local_path, walk
from cluster.store import NotFound, Refused, StoreError
from originality.faults import MachineFault

_REST_SECONDS = 5.0
"""After a source was there it is not looked for again: a listing is not asked for with every image."""


class SourceGone(MachineFault):
    """The collection that was listed is not there on this machine."""


class SourceCheck:
    """Of one collection, for one worker, whose threads may share it."""

    def __init__(self, source: str) -> None:
        """``source``: the folder or prefix in which the listing saw images; empty for a list of images,
        which lie anywhere."""
        self._source = source
        self._there_at: float | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """To be called where an image is missing. What a listing cannot answer says nothing.

        Raises:
            SourceGone: the source does not exist, or is empty as a mount point is.
            Refused: the store would refuse every request.
        """
        with self._lock:
            now = time.monotonic()
            if not self._source or (self._there_at is not None and now - self._there_at < _REST_SECONDS):
                return
            why = _why_gone(self._source)
            if why:
                raise SourceGone(
                    f"{self._source} {why} on {socket.gethostname()}, though images were listed in it; mount "
                    "or bring it back"
                )
            self._there_at = time.monotonic()


def _why_gone(source: str) -> str:
    try:
        if "://" in source and not source.startswith("file://"):
            return "" if next(walk(source), None) else "is empty"
        folder = local_path(source)
        if not folder.is_dir():
            return "does not exist"
        with os.scandir(folder) as entries:
            return "" if next(entries, None) else "is empty"
    except NotFound:
        return "does not exist"
    except Refused as refusal:
        if refusal.of_all:
            raise
    except (StoreError, OSError):
        pass  # it may be there, and not to be listed
    return ""
