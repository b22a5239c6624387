"""Heartbeats of the processes that work on a run, and their progress, kept in the run folder alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from cluster.run.layout import DRIVERS
from cluster.storage.periodic import regularly
from cluster.storage.processes import ended_here
from cluster.storage.store import Store, StoreError
from cluster.storage.turns import Claim, Place, Superseded, content_of, objects_of, ticks

EVERY_SECONDS = 15.0
STALE_SECONDS = 120.0
"""Seconds without a heartbeat after which a process counts as gone."""


class Heartbeat:
    """The heartbeat of a process that works on a run or waits for its turn. A background thread renews it
    while the context is open; a regular exit removes it."""

    def __init__(
        self,
        store: Store,
        role: str,
        about: Mapping[str, Any] | None = None,
        *,
        clock: Callable[[], float] = ticks,
    ) -> None:
        """
        Args:
            role: "audit", "retry" or "experiment".
            about: what else others need in order to decide whether they may work at the same time.
        """
        self._place = Place(
            store, DRIVERS, {**(about or {}), "role": role}, stale_seconds=STALE_SECONDS, clock=clock
        )
        self._state: Mapping[str, Any] = {}
        self._superseded: Superseded | None = None
        self._ended = False
        self._beating = regularly(EVERY_SECONDS, self._beat)

    def update(self, state: Mapping[str, Any]) -> None:
        """Set the progress that is published with the next heartbeat.

        Raises:
            Superseded: another process has taken its place.
        """
        self._state = state
        if self._superseded is not None:
            raise self._superseded

    def check(self) -> None:
        """Make sure that this process still has its place, before a step that cannot be undone. Waits for
        the store.

        Raises:
            Superseded: another process has taken its place.
        """
        self._beat()
        self.update(self._state)

    def ahead(self, matters: Callable[[Claim], bool]) -> list[Claim]:
        """The earlier processes that matter and are not gone, the earliest first."""
        return self._place.ahead(matters)

    @property
    def alone(self) -> bool:
        """Whether no other process works on the run or waits."""
        return all(claim.gone for claim in self._place.others())

    def __enter__(self) -> Self:
        try:
            self._place.join()
            self._beat()
        except BaseException:
            with suppress(StoreError):  # if it cannot be removed, it goes stale by itself
                self._place.leave()
            raise
        self._beating.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._beating.__exit__(None, None, None)
        with suppress(StoreError):  # if it cannot be removed, it goes stale by itself
            self._place.leave()

    def _beat(self) -> None:
        if self._superseded is not None:
            return
        try:
            self._place.renew(self._state)
        except Superseded as superseded:
            self._superseded = superseded
        # The context may have closed while this thread waited for the store: then __exit__ removed the place
        # before this heartbeat was written, and it would stay behind.
        if self._ended:
            self._place.leave()


@dataclass(frozen=True)
class Pulse:
    """The last heartbeat of a process."""

    state: dict[str, Any]
    """Its identity and progress; empty if the heartbeat is damaged."""
    age: float
    """Seconds since it was written: by the store's clock if one may write there, else by this machine's."""

    @property
    def host(self) -> str:
        """Name of the machine that wrote it, as text for messages."""
        return str(self.state.get("host", "an unknown machine (its heartbeat is damaged)"))

    @property
    def alive(self) -> bool:
        """Whether the process may still be running: its heartbeat is recent, and no end of it is known."""
        return self.age < STALE_SECONDS and not ended_here(self.state)


def pulses(store: Store) -> list[Pulse]:
    """The heartbeats of all processes that work on a run, or died while they did, the latest first.

    For display only: a process that wants to work on the run joins the queue (:class:`Heartbeat`).
    """
    drivers = objects_of(store, DRIVERS)
    if not drivers:
        return []
    now = _now(store)
    found = []
    for objects in drivers.values():
        state: dict[str, Any] = {}
        for item in objects:
            state.update(content_of(store, item.path))
        found.append(Pulse(state, max(0.0, (now - objects[-1].written).total_seconds())))
    return sorted(found, key=lambda pulse: pulse.age)


def _now(store: Store) -> datetime:
    try:
        return store.now(DRIVERS)
    except StoreError:  # with read-only access there is no better clock
        return datetime.now(UTC)
