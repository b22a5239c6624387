"""That somebody works on a run, and how far they are: told through the run folder alone."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil

from cluster.store import NotFound, Store

EVERY_SECONDS = 15.0
STALE_SECONDS = 120.0
"""Whoever has not been heard of for so long is gone."""
_PREFIX = "progress/driver-"


class Heartbeat:
    """One driver's: ``progress/driver-<name>.json``, gone when it ends in good order."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._path = f"{_PREFIX}{name}.json"
        self._beaten_at = 0.0

    def beat(self, state: Mapping[str, Any]) -> None:
        """Cheap to call often: writes only when it is due."""
        if time.monotonic() - self._beaten_at < EVERY_SECONDS:
            return
        self._beaten_at = time.monotonic()
        who = {"host": socket.gethostname(), "pid": os.getpid(), "at": datetime.now(UTC).isoformat()}
        self._store.write(self._path, json.dumps({**state, **who}).encode())

    def end(self) -> None:
        """Takes it away, and those of drivers that are known to have died."""
        self._store.delete(self._path)
        for pulse in pulses(self._store):
            if not pulse.alive:
                self._store.delete(pulse.path)


def _died_here(state: Mapping[str, Any]) -> bool:
    return state.get("host") == socket.gethostname() and not psutil.pid_exists(int(state.get("pid", 0)))


@dataclass(frozen=True)
class Pulse:
    """What a driver last said of itself."""

    path: str
    state: dict[str, Any]
    age: float
    """Seconds since."""

    @property
    def alive(self) -> bool:
        return self.age < STALE_SECONDS and not _died_here(self.state)


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
