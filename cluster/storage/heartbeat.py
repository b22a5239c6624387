"""That somebody works on a run, and how far they are: told through the run folder alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from cluster.storage.periodic import regularly
from cluster.storage.processes import ended_here
from cluster.storage.store import Store, StoreError
from cluster.storage.turns import Claim, Place, Superseded, content_of, objects_of, ticks

EVERY_SECONDS = 15.0
STALE_SECONDS = 120.0
"""Whoever has not been heard of for so long is gone."""
DRIVERS = "progress/drivers"
"""Folder of the queue in which those stand who work on a run, or want to."""


class Heartbeat:
    """One process's, at work on a run or waiting for its turn: kept fresh while the context is open, and gone
    when it ends in good order."""

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
            about: what else others should know, so that they can tell whether they may work beside it.
        """
        self._place = Place(
            store, DRIVERS, {**(about or {}), "role": role}, stale_seconds=STALE_SECONDS, clock=clock
        )
        self._state: Mapping[str, Any] = {}
        self._superseded: Superseded | None = None
        self._ended = False
        self._beating = regularly(EVERY_SECONDS, self._beat)

    def tell(self, state: Mapping[str, Any]) -> None:
        """How far it is; told to others with the next beat.

        Raises:
            Superseded: another has taken its place.
        """
        self._state = state
        if self._superseded is not None:
            raise self._superseded

    def check(self) -> None:
        """Makes sure before a step that cannot be undone; waits for the store.

        Raises:
            Superseded: another has taken its place.
        """
        self._beat()
        self.tell(self._state)

    def ahead(self, matters: Callable[[Claim], bool]) -> list[Claim]:
        """Who came earlier, matters and is not gone, the earliest first."""
        return self._place.ahead(matters)

    @property
    def alone(self) -> bool:
        """Whether nobody else works on the run, or waits."""
        return all(claim.gone for claim in self._place.others())

    def __enter__(self) -> Self:
        try:
            self._place.take()
            self._beat()
        except BaseException:
            with suppress(StoreError):
                self._place.give_back()
            raise
        self._beating.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._beating.__exit__(None, None, None)
        with suppress(StoreError):  # it becomes stale by itself
            self._place.give_back()

    def _beat(self) -> None:
        if self._superseded is not None:
            return
        try:
            self._place.keep(self._state)
        except Superseded as superseded:
            self._superseded = superseded
        if self._ended:  # meanwhile, while the store did not answer
            self._place.give_back()


@dataclass(frozen=True)
class Pulse:
    """What somebody at work last said of itself."""

    state: dict[str, Any]
    """Empty where that is damaged."""
    age: float
    """Seconds since, by the store's clock where one may write there, else by one's own."""

    @property
    def host(self) -> str:
        return str(self.state.get("host", "a machine whose name is damaged"))

    @property
    def alive(self) -> bool:
        return self.age < STALE_SECONDS and not ended_here(self.state)


def pulses(store: Store) -> list[Pulse]:
    """Of all that work on a run, or died at it, the latest first. Only looks: who wants to work itself takes
    its turn (:class:`Heartbeat`)."""
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
    except StoreError:  # whoever may only read has no better clock
        return datetime.now(UTC)
