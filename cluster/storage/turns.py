"""Whose turn it is: a queue of processes, kept in a store, that any number may join at the same instant.

Who joins creates ``FOLDER/NUMBER.claim.json``. Numbers only grow and none is given twice, so the claims stand
in one order for all who look, and whoever finds no earlier claim in its way has its turn. While a process
holds or waits, it writes ``NUMBER.beat.json`` over and over.

Who is alive is never judged by the clock of whoever wrote:

- A process that told of itself where its id means the same as here, and has ended, is gone.
- Else objects have an age by the store's clock: what the store says of them against what it says of the
  observer's own, written last. One that is too old is watched a little longer, and must not change meanwhile:
  clocks are set, and a store may have been out for both.
- What does not change while it is watched for as long as a silence may last is too old, whatever the store
  says (its clock may have been set back since).

A claim whose process is gone is removed. A process that was only suspended finds, when it returns, that its
claim is not there any more, and must stop (:class:`Superseded`): it never removes or overwrites what is
another's, as it writes to no names but its own. Contents are for people, and for who may work beside whom: if
they are damaged, the claim counts all the same, by its age.
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
"""For how long a claim that is too old by the store's clock is watched: longer than the pause between two
beats and that between two attempts at a store that was out."""
_LOOK_SECONDS = 5.0
"""Most that two looks, between which nothing changed, add to the time for which a claim was watched. The
store may have been out in between, or whoever watches was suspended."""
_IN_FUTURE_SECONDS = 30.0
"""Of an object, beyond which a clock was set back since it was written."""
_NAME = re.compile(r"(\d+)\.(claim|beat)\.json")


class Superseded(Exception):  # noqa: N818 - no fault: another does the work
    """This process was silent for so long that another has taken its place; it must stop."""


def ticks() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps, where the system has
    such a clock."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True)
class Claim:
    """What there is of one process in a queue."""

    number: int
    objects: tuple[StoredObject, ...]
    """The claim, the beat, or both; the beat, which is written later, comes last."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What it said of itself, and last of its work; empty where that is damaged."""
    age: float = 0.0
    """Seconds since it was last written, by the clock of the store; negative if a clock was set back."""
    gone: bool = False
    """Whether its process has ended, or was silent for too long."""
    doubtful: bool = False
    """Whether it is to be watched before it is known to be gone or not."""

    @property
    def who(self) -> str:
        """For people."""
        if "pid" not in self.told:
            return "a process whose claim is damaged"
        return f"{self.told.get('host')}, process {self.told['pid']}"


@dataclass
class _Watched:
    """How long somebody's last sign of life was seen not to change."""

    newest: StoredObject
    looked_at: float
    seconds: float = 0.0

    def look(self, now: float) -> None:
        self.seconds += min(max(0.0, now - self.looked_at), _LOOK_SECONDS)
        self.looked_at = max(now, self.looked_at)


class Place:
    """This process's place in a queue. To be given back when it is done."""

    def __init__(
        self,
        store: Store,
        folder: str,
        about: Mapping[str, Any] | None = None,
        *,
        stale_seconds: float,
        clock: Callable[[], float] = ticks,
    ) -> None:
        """``about``: what others should know of it from the start. ``stale_seconds``: of silence, after which
        a process is gone."""
        self.number = 0
        self._store = store
        self._folder = folder
        self._about = about or {}
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._has_beat = False
        self._written_at = 0.0
        """On this process's clock, when the store had taken its claim or its last beat."""
        self._mutex = threading.Lock()
        """Held while either is written, or compared with what others wrote."""
        self._watched: dict[int, _Watched] = {}
        self._read: dict[str, tuple[StoredObject, Mapping[str, Any]]] = {}

    def take(self) -> None:
        """Joins the queue, behind all who are in it."""
        number = max([*self._objects(), round(time.time() * 1000)])  # by a clock: none is given twice
        while True:
            number += 1
            if not self._store.create(self._path(number, "claim"), self._content({})):
                continue
            self.number, self._written_at, self._has_beat = number, self._clock(), False
            last = max(self._objects(), default=number)
            if last <= number:
                return
            # A later one may have found the queue empty, and be at work.
            self.give_back()
            number = last

    def keep(self, state: Mapping[str, Any] | None = None) -> None:
        """Tells others that this process is alive, and what it says of its work.

        Raises:
            Superseded: another has removed its claim.
        """
        # First the beat, then the look: who removes a claim does it in the other order (see _remove).
        with self._mutex:
            self._has_beat = True
            self._store.write(self._path(self.number, "beat"), self._content(state or {}))
            self._written_at = self._clock()
        if not self._store.exists(self._path(self.number, "claim")):
            raise Superseded(
                f"nothing was heard of this process for {self._stale_seconds:g} s or more (suspended, or cut "
                "off from the store?), and another has taken its place"
            )

    @property
    def silent_seconds(self) -> float:
        """Since this process last told that it is alive."""
        return self._clock() - self._written_at

    def give_back(self) -> None:
        """Leaves the queue."""
        if self.number:
            self._store.delete(self._path(self.number, "claim"))
        if self._has_beat:
            self._store.delete(self._path(self.number, "beat"))
        self._store.remove_empty(self._folder)

    def others(self) -> list[Claim]:
        """All others in the queue, gone or not, the earliest first."""
        with self._mutex:
            before = self._clock()
            objects = self._objects()
            own = objects.pop(self.number, None)
            written = own[-1].written if own else None
            return [self._judged(number, them, before, written) for number, them in sorted(objects.items())]

    def ahead(self, matters: Callable[[Claim], bool] = lambda claim: True) -> list[Claim]:
        """Those earlier in the queue that matter and are not gone, the earliest first. Removes those that
        matter and are gone."""
        earlier = [claim for claim in self.others() if claim.number < self.number and matters(claim)]
        return [claim for claim in earlier if not (claim.gone and self._remove(claim))]

    def _remove(self, claim: Claim) -> bool:
        """Removes a claim whose process is gone; False where it returned at the last moment."""
        with suppress(Refused):  # keys that may not delete: it lies there, and is in nobody's way
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
        """``now``: on this process's clock, from before it looked; ``own``: when the store last took
        something of this process's, by the store's clock. Both err in favour of who is judged."""
        told = self._told(objects)
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
        gone = silent or ended_here(told)
        doubtful = not gone and (old or age < -_IN_FUTURE_SECONDS)
        return Claim(number, objects, told, age, gone, doubtful)

    def _told(self, objects: tuple[StoredObject, ...]) -> Mapping[str, Any]:
        """What the beat says, over what the claim says."""
        told: dict[str, Any] = {}
        for found in objects:
            before, content = self._read.get(found.path, (None, {}))
            if before != found:
                content = content_of(self._store, found.path)
                self._read[found.path] = found, content
            told.update(content)
        return told

    def _path(self, number: int, kind: str) -> str:
        return f"{self._folder}/{number:016}.{kind}.json"

    def _content(self, state: Mapping[str, Any]) -> bytes:
        # The random part makes each claim one that nobody else could have written (see Store.create).
        at = {"at": datetime.now(UTC).isoformat(), "token": uuid.uuid4().hex}
        return json.dumps({**state, **self._about, **this_process(), **at}).encode()


def objects_of(store: Store, folder: str) -> dict[int, tuple[StoredObject, ...]]:
    """The objects of a queue by number, of each number the claim before the beat."""
    found: dict[int, list[StoredObject]] = {}
    for item in store.list(folder):
        if named := _NAME.fullmatch(item.path.rpartition("/")[2]):
            found.setdefault(int(named[1]), []).append(item)
    return {number: tuple(sorted(items, key=_is_beat)) for number, items in found.items()}


def _is_beat(item: StoredObject) -> bool:
    return item.path.endswith(".beat.json")


def content_of(store: Store, path: str) -> dict[str, Any]:
    """What an object says; nothing where it is damaged, or gone by now."""
    try:
        said = json.loads(store.read(path))
    except (NotFound, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
