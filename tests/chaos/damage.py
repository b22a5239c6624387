"""Damages files of a run, of every kind: a bit is flipped, or the end is cut off."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from contextlib import suppress

from cluster.storage.store import NotFound, Store

KINDS = {
    "record": r"records/.*\.json",
    "verdicts part": r"verdicts/.*\.parquet",
    "inputs part": r"inputs/.*\.parquet",
    "summary": r"summary\.json",
    "heartbeat": r"progress/.*\.json",
    "snapshot": r"progress/.*\.snapshot",
    "retry": r"retries/.*\.json",
}
"""Files that can be recreated, or whose image is judged again. run.json and the manifest are neither; a run
without them is refused."""
_MOST = 3
"""Number of files of one kind that are damaged at the same time."""


def damage(store: Store, dice: random.Random, kinds: Iterable[str] = KINDS) -> list[str]:
    """Damages some files of each of these kinds, if there are any; returns their paths."""
    damaged = []
    for kind in kinds:
        there = sorted(found.path for found in store.list() if re.fullmatch(KINDS[kind], found.path))
        for path in dice.sample(there, min(len(there), dice.randint(1, _MOST))):
            with suppress(NotFound):  # deleted meanwhile by a worker that still runs
                store.write(path, _damaged(store.read(path), dice))
                damaged.append(path)
    return damaged


def _damaged(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(max(1, len(data)))
    if dice.random() < 0.4 or not data:
        return data[:at]
    return data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]
