"""That somebody works on a run, and how far they are: told through the run folder alone."""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import psutil

from cluster.regularly import regularly
from cluster.store import NotFound, Store, StoreError

EVERY_SECONDS = 15.0
STALE_SECONDS = 120.0
"""Whoever has not been heard of for so long is gone."""
_PREFIX = "progress/driver-"


class Heartbeat:
    """One process's: ``progress/driver-<name>.json``, kept fresh while the context is open, and gone when it
    ends in good order."""

    def __init__(self, store: Store, role: str) -> None:
        """``role``: "audit" or "retry"."""
        self._store = store
        self._role = role
        self._path = f"{_PREFIX}{uuid.uuid4().hex[:8]}.json"
        self._state: Mapping[str, Any] = {}
        self._beating = regularly(EVERY_SECONDS, self._write)

    def tell(self, state: Mapping[str, Any]) -> None:
        """How far it is; told to others with the next beat."""
        self._state = state

    def __enter__(self) -> Self:
        self._write()
        self._beating.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes it away, and those of processes that are known to have died."""
        self._beating.__exit__(None, None, None)
        with suppress(StoreError):  # it becomes stale by itself
            self._store.delete(self._path)
            for pulse in pulses(self._store):
                if not pulse.alive:
                    self._store.delete(pulse.path)

    def _write(self) -> None:
        who = {"host": socket.gethostname(), "pid": os.getpid(), "role": self._role}
        at = datetime.now(UTC).isoformat()
        self._store.write(self._path, json.dumps({**self._state, **who, "at": at}).encode())


def died_here(state: Mapping[str, Any]) -> bool:
    """Whether the process that said so, by its host and pid, ran on this machine and is gone."""
    return state.get("host") == socket.gethostname() and not psutil.pid_exists(int(state.get("pid", 0)))


@dataclass(frozen=True)
class Pulse:
    """What a driver last said of itself."""

    path: str
    state: dict[str, Any]
    age: float
    """Seconds since."""

    @property
    def who(self) -> str:
        return f"{self.state.get('host')}, process {self.state.get('pid')}, {self.age:.0f} s ago"

    @property
    def alive(self) -> bool:
        return self.age < STALE_SECONDS and not died_here(self.state)


def pulses(store: Store) -> list[Pulse]:
    """Of all drivers that did not end in good order, the latest first."""
    found = []
    for item in store.list("progress"):
        if not item.path.startswith(_PREFIX):
            continue
        try:
            state = json.loads(store.read(item.path))
            at = datetime.fromisoformat(state["at"])
        except (NotFound, ValueError, KeyError, TypeError):
            continue  # it has ended just now, or died while it wrote
        found.append(Pulse(item.path, state, (datetime.now(UTC) - at).total_seconds()))
    return sorted(found, key=lambda pulse: pulse.age)
