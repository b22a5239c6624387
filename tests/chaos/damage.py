"""Damage to the files of a run, of each kind that it keeps: a bit that flips, an end that is lost."""

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
"""What is made anew or judged again. run.json and the manifest are neither, and a run without them is
refused."""
_MOST = 3
"""Files of a kind that are damaged at once."""


def damage(store: Store, dice: random.Random, kinds: Iterable[str] = KINDS) -> list[str]:
    """Damages some files of each of these kinds where there are any; their paths."""
    damaged = []
    for kind in kinds:
        there = sorted(found.path for found in store.list() if re.fullmatch(KINDS[kind], found.path))
        for path in dice.sample(there, min(len(there), dice.randint(1, _MOST))):
            with suppress(NotFound):  # a worker that was left behind has taken it away
                store.write(path, _damaged(store.read(path), dice))
                damaged.append(path)
    return damaged


def _damaged(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(max(1, len(data)))
    if dice.random() < 0.4 or not data:
        return data[:at]
    return data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]
