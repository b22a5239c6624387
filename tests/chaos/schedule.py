"""The kinds of trouble, and which of them a schedule has: drawn from its seed alone."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.limits import REQUEST, SILENCE

HOUR = 3600.0
STORE_FAULTS: dict[str, dict[str, Any]] = {
    "500": {"mode": "error", "status": 500, "share": 0.5},
    "503": {"mode": "error", "status": 503},
    "409": {"mode": "error", "status": 409, "method": "PUT", "header": "if-none-match", "share": 0.7},
    "slow": {"mode": "slow", "seconds": 0.5, "share": 0.5},
    "drip": {"mode": "drip", "seconds": 0.2, "method": "GET", "share": 0.3},
    "cut": {"mode": "cut", "share": 0.5},
    "truncate": {"mode": "truncate", "method": "GET", "share": 0.5},
    "lose answer": {"mode": "lose_answer", "share": 0.5},
    "ambiguous puts": {"mode": "lose_answer", "method": "PUT"},
    "refuse": {"mode": "refuse"},
}
"""Faults of the requests of every machine."""
KILLS = (
    "kill worker",
    "kill decoder",
    "kill raylet",
    "kill driver",
    "stop driver",
    "stop driver twice",
    "interrupt driver",
    "lose node",
    "kill store",
)
LOCAL_RAY = "kill a local Ray"
"""Without a cluster: the first starts bring up a Ray on this machine, until one has lost a part of it."""
SUSPENSIONS = ("suspend driver", "suspend worker", "suspend raylet", "suspend machine")
"""Processes that are suspended for longer than every time limit, and resumed."""
HIDDEN = ("blind node", "hide collection")
"""The collection cannot be read: on one of the machines, or on all."""
RACES = ("second start", "overlapping starts")
DAMAGE = "damage"
"""The driver is killed, and files of the run are damaged before the next start."""
CLOCKS = ("wrong clock of drivers", "wrong clocks of workers")
"""From the start on, by an hour: the other way with each start, or on the other machine."""
AFTERWARDS = ("damage the finished run", "retry beside readers", "late compaction")
"""When everything is judged; then what was damaged is judged again."""

KINDS = (*STORE_FAULTS, *KILLS, LOCAL_RAY, *SUSPENSIONS, *HIDDEN, *RACES, DAMAGE, *CLOCKS, *AFTERWARDS)
DOZEN = 12


@dataclass(frozen=True)
class Event:
    at: float
    """Seconds after the start of the schedule."""
    what: str
    seconds: float
    """Duration in seconds, if it lasts."""


@dataclass(frozen=True)
class Schedule:
    seed: int
    events: list[Event] = field(default_factory=list)
    """Ordered by time."""
    clocks: tuple[str, ...] = ()
    afterwards: tuple[str, ...] = ()

    @property
    def kinds(self) -> set[str]:
        return {*(event.what for event in self.events), *self.clocks, *self.afterwards}


def schedule(seed: int, only: Collection[str] = ()) -> Schedule:
    """Two or three troubles. The kinds are shuffled and dealt to each dozen of seeds, like cards, so that a
    dozen holds each of them once.

    ``only``: the kinds to draw from, one to three of them; all when empty.
    """
    dice = random.Random(seed)
    if only:
        kinds = [kind for kind in KINDS if kind in only]
        drawn = [kinds[seed % len(kinds)], *dice.choices(kinds, k=dice.randrange(3))]
    else:
        drawn = random.Random(f"deck {seed // DOZEN}").sample(KINDS, len(KINDS))[seed % DOZEN :: DOZEN]
    events = [
        Event(dice.uniform(2.0, 9.0), kind, _lasts(kind, dice))
        for kind in drawn
        if kind not in (*CLOCKS, *AFTERWARDS)
    ]
    return Schedule(
        seed,
        sorted(events, key=lambda event: event.at),
        tuple(kind for kind in CLOCKS if kind in drawn),
        tuple(kind for kind in AFTERWARDS if kind in drawn),
    )


def _lasts(kind: str, dice: random.Random) -> float:
    if kind in SUSPENSIONS:
        return SILENCE * dice.uniform(1.3, 1.6)
    if kind == "drip":
        return REQUEST * dice.uniform(1.2, 1.6)
    if kind in HIDDEN:
        return dice.uniform(3.0, 6.0)
    return dice.uniform(0.3, 2.0)
