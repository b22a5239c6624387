"""Clocks controlled by a test: that of a store, and those of the processes that use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from obstore.store import MemoryStore

from cluster.storage.store import Store, StoredObject


@dataclass
class Time:
    """The time; only ``pass_by`` moves it."""

    seconds: float = 0.0
    set_by: float = 0.0
    """Seconds by which the store's clock was set."""

    def __call__(self) -> float:
        """A process's monotonic clock."""
        return self.seconds

    @property
    def date(self) -> datetime:
        """The store's clock."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds + self.set_by)

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds


class ClockedStore(Store):
    """A store in memory whose clock a test controls."""

    def __init__(self, time: Time, whole_seconds: bool = False) -> None:
        """``whole_seconds``: times of writing are rounded, as with S3."""
        super().__init__("memory://", MemoryStore())
        self._time = time
        self._whole_seconds = whole_seconds
        self._written: dict[str, datetime] = {}

    def write(self, path: str, data: bytes) -> None:
        super().write(path, data)
        self._note(path)

    def create(self, path: str, data: bytes) -> bool:
        created = super().create(path, data)
        if created:
            self._note(path)
        return created

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        for found in super().list(prefix):
            yield replace(found, written=self._written[found.path])

    def _note(self, path: str) -> None:
        date = self._time.date
        self._written[path] = date.replace(microsecond=0) if self._whole_seconds else date
