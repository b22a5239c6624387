"""A lock that every store has: an object that is created once, and is stale when nobody keeps it."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from cluster.heartbeat import died_here
from cluster.store import NotFound, Store, StoreError

_STALE_SECONDS = 180.0
_PAUSE_SECONDS = 1.0


class Lock:
    """Held by one at a time, as a context. Who holds it calls ``keep`` every minute or so; one that was not
    kept for three minutes belonged to somebody who died. For work that is harmless when it is done twice."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._path = path
        self._kept_at = 0.0

    def __enter__(self) -> Self:
        while not self._store.create(self._path, self._content()):
            if self._is_stale():
                self._store.delete(self._path)
            else:
                time.sleep(_PAUSE_SECONDS)
        self._kept_at = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(StoreError):  # it becomes stale by itself
            self._store.delete(self._path)

    def keep(self) -> None:
        if time.monotonic() - self._kept_at > _STALE_SECONDS / 10:
            self._store.write(self._path, self._content())
            self._kept_at = time.monotonic()

    def _content(self) -> bytes:
        who = {"host": socket.gethostname(), "pid": os.getpid()}
        return json.dumps({**who, "at": datetime.now(UTC).isoformat()}).encode()

    def _is_stale(self) -> bool:
        try:
            holder = json.loads(self._store.read(self._path))
            at = datetime.fromisoformat(holder["at"])
        except NotFound:
            return False  # free by now
        except (ValueError, KeyError, TypeError):
            return True
        return died_here(holder) or (datetime.now(UTC) - at).total_seconds() > _STALE_SECONDS
