"""A queue of processes kept in a store, which any number may join at the same instant.

A process joins by creating ``FOLDER/NUMBER.claim.json``. Numbers only grow and none is given twice, so all
processes see the claims in the same order, and one that finds no earlier claim in its way has its turn. While
a process waits or has its turn, it keeps rewriting ``NUMBER.beat.json``.

Whether a process is alive is never decided by the clock of the machine that it runs on:

- A process that has ended is gone, if its identity shows that its id is counted on this machine.
- Otherwise the age of its objects counts, by the store's clock: their time of writing against that of the
  observer's own object, written last. A claim that is too old is watched a little longer, and must not change
  meanwhile: clocks are set, and a store may have been out for both.
- An object that was watched for as long as a silence may last, and did not change, is too old whatever the
  store reports (its clock may have been set back since).

The claim of a process that is gone is removed. A process that was only suspended finds its claim missing when
it resumes, and must stop (:class:`Superseded`). It never overwrites what belongs to another process, as it
writes only to names with its number. The contents are for display, and for deciding who may work at the
same time; if they are damaged, the claim still counts, by its age.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cluster.storage.processes import ended_here, this_process
from cluster.storage.store import NotFound, Refused, Store, StoredObject

CONFIRM_SECONDS = 40.0
"""How long a claim that is too old by the store's clock is watched before its process counts as gone: longer
than the pause between two heartbeats, and than that between two retries of a store that was out."""
_LOOK_SECONDS = 5.0
"""Seconds that two looks without a change in between add to the time watched, at most. In a longer gap the
store may have been out or the observer suspended, so that a change would have gone unseen."""
_IN_FUTURE_SECONDS = 30.0
"""An object with a time of writing further in the future shows that a clock was set back since."""
_NAME = re.compile(r"(\d+)\.(claim|beat)\.json")


class Superseded(Exception):  # noqa: N818 - not a fault: another process does the work
    """This process was silent for so long that another took its place; it must stop."""


def ticks() -> float:
    """Seconds on a clock that is never set, and that runs while the machine sleeps if the system has such a
    clock."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True)
class Claim:
    """One process in a queue, as another process sees it."""

    number: int
    objects: tuple[StoredObject, ...]
    """The claim, the heartbeat, or both; the heartbeat, which is written later, comes last."""
    content: Mapping[str, Any] = field(default_factory=dict)
    """Its identity, and its latest progress; empty if both objects are damaged."""
    age: float = 0.0
    """Seconds since its last write, by the store's clock; negative if that clock was set back."""
    gone: bool = False
    """Whether the process has ended, or was silent for too long."""
    doubtful: bool = False
    """Whether it must be watched longer before it is known to be gone or not."""

    @property
    def who(self) -> str:
        """The process, for display."""
        if "pid" not in self.content:
            return "a process whose claim is damaged"
        return f"{self.content.get('host')}, process {self.content['pid']}"


@dataclass
class _Watched:
    """For how long the latest object of a process was seen unchanged."""

    newest: StoredObject
    looked_at: float
    seconds: float = 0.0

    def look(self, now: float) -> None:
        self.seconds += min(max(0.0, now - self.looked_at), _LOOK_SECONDS)
        self.looked_at = max(now, self.looked_at)


class Place:
    """This process's place in a queue. The process must leave the queue when it is done."""

    def __init__(
        self,
        store: Store,
        folder: str,
        about: Mapping[str, Any] | None = None,
        *,
        stale_seconds: float,
        clock: Callable[[], float] = ticks,
    ) -> None:
        """
        Args:
            about: what others should know about it from the start.
            stale_seconds: without a heartbeat, after which a process counts as gone.
            clock: seconds, of this process; see :func:`ticks`.
        """
        self.number = 0
        self._store = store
        self._folder = folder
        self._about = about or {}
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._has_beat = False
        self._written_at = 0.0
        """By this process's clock, when the store had accepted its claim or its last heartbeat."""
        self._mutex = threading.Lock()
        """Held while the heartbeat is written, and while its time is compared with those of others: the
        background thread writes it, and the two clocks must be read for the same write."""
        self._watched: dict[int, _Watched] = {}
        self._read: dict[str, tuple[StoredObject, Mapping[str, Any]]] = {}

    def join(self) -> None:
        """Join the queue, behind all that are in it."""
        # Numbers follow a clock, so that a number is not given again after the queue was empty: a suspended
        # process would take the new claim for its own.
        number = max([*self._objects(), round(time.time() * 1000)])
        while True:
            number += 1
            if not self._store.create(self._path(number, "claim"), self._content({})):
                continue
            self.number, self._written_at, self._has_beat = number, self._clock(), False
            last = max(self._objects(), default=number)
            if last <= number:
                return
            # A later number was created before this claim was visible. Its process may have found nothing
            # ahead and started, so this one must not stand before it: it leaves and joins again behind.
            self.leave()
            number = last

    def renew(self, state: Mapping[str, Any] | None = None) -> None:
        """Write a heartbeat, with the progress in ``state``.

        Raises:
            Superseded: another process removed the claim of this one.
        """
        # The order matters: write the heartbeat, then check the claim. _remove deletes the claim first and
        # then looks for a new heartbeat. So of a process that resumes while it is being removed, at least one
        # side notices the other.
        with self._mutex:
            self._has_beat = True
            self._store.write(self._path(self.number, "beat"), self._content(state or {}))
            self._written_at = self._clock()
        if not self._store.exists(self._path(self.number, "claim")):
            raise Superseded(
                f"this process sent no heartbeat for {self._stale_seconds:g} s or more (suspended, or cut "
                "off from the store?), and another has taken its place"
            )

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last heartbeat of this process."""
        return self._clock() - self._written_at

    def leave(self) -> None:
        """Leave the queue."""
        if self.number:
            self._store.delete(self._path(self.number, "claim"))
        if self._has_beat:
            self._store.delete(self._path(self.number, "beat"))
        self._store.remove_empty(self._folder)

    def others(self) -> list[Claim]:
        """All other processes in the queue, gone or not, the earliest first."""
        with self._mutex:
            before = self._clock()
            objects = self._objects()
            own = objects.pop(self.number, None)
            written = own[-1].written if own else None
            return [self._judged(number, them, before, written) for number, them in sorted(objects.items())]

    def ahead(self, matters: Callable[[Claim], bool] = lambda claim: True) -> list[Claim]:
        """The processes ahead in the queue that matter and are not gone, the earliest first. The claims of
        those that matter and are gone are removed."""
        earlier = [claim for claim in self.others() if claim.number < self.number and matters(claim)]
        return [claim for claim in earlier if not (claim.gone and self._remove(claim))]

    def _remove(self, claim: Claim) -> bool:
        """Remove the claim of a process that is gone; False if the process resumed at the last moment."""
        with suppress(Refused):  # credentials that may not delete: it stays there, and is in nobody's way
            self._store.delete(self._path(claim.number, "claim"))
            beats = set(filter(_is_beat, claim.objects))
            now = set(self._objects().get(claim.number, ()))
            if not now <= beats:
                return False
            for beat in now:
                self._store.delete(beat.path)
        return True

    def _objects(self) -> dict[int, tuple[StoredObject, ...]]:
        return objects_of(self._store, self._folder)

    def _judged(
        self, number: int, objects: tuple[StoredObject, ...], now: float, own: datetime | None
    ) -> Claim:
        """What the objects of another process show about it.

        Args:
            now: by this process's clock, from before it listed the objects.
            own: when the store accepted this process's last write, by the store's clock.

        Both errors make the other process look younger than it is, never older.
        """
        content = self._content_of(objects)
        newest = objects[-1]
        age = 0.0
        if own is not None:
            age = (own - newest.written).total_seconds() + max(0.0, now - self._written_at)
        watched = self._watched.get(number)
        if watched is None or watched.newest != newest:
            watched = self._watched[number] = _Watched(newest, self._clock())
        else:
            watched.look(now)
        unchanged = watched.seconds
        old = age > self._stale_seconds
        silent = unchanged > self._stale_seconds or (old and unchanged > CONFIRM_SECONDS)
        gone = silent or ended_here(content)
        doubtful = not gone and (old or age < -_IN_FUTURE_SECONDS)
        return Claim(number, objects, content, age, gone, doubtful)

    def _content_of(self, objects: tuple[StoredObject, ...]) -> Mapping[str, Any]:
        """The contents of the claim, updated by those of the heartbeat."""
        merged: dict[str, Any] = {}
        for found in objects:
            before, content = self._read.get(found.path, (None, {}))
            if before != found:
                content = content_of(self._store, found.path)
                self._read[found.path] = found, content
            merged.update(content)
        return merged

    def _path(self, number: int, kind: str) -> str:
        return f"{self._folder}/{number:016}.{kind}.json"

    def _content(self, state: Mapping[str, Any]) -> bytes:
        # The random token makes the bytes of each claim unique: a writer whose answer was lost takes equal
        # bytes for its own (see Store.create), and two processes would hold one number.
        at = {"at": datetime.now(UTC).isoformat(), "token": uuid.uuid4().hex}
        return json.dumps({**state, **self._about, **this_process(), **at}).encode()


def objects_of(store: Store, folder: str) -> dict[int, tuple[StoredObject, ...]]:
    """The objects of a queue by number; for each number the claim comes before the heartbeat."""
    found: dict[int, list[StoredObject]] = {}
    for item in store.list(folder):
        if named := _NAME.fullmatch(item.path.rpartition("/")[2]):
            found.setdefault(int(named[1]), []).append(item)
    return {number: tuple(sorted(items, key=_is_beat)) for number, items in found.items()}


def _is_beat(item: StoredObject) -> bool:
    return item.path.endswith(".beat.json")


def content_of(store: Store, path: str) -> dict[str, Any]:
    """The contents of an object; empty if it is damaged, or was deleted meanwhile."""
    try:
        content = json.loads(store.read(path))
    except (NotFound, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
