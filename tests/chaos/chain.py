"""A cheap scorer whose record depends on each of its steps: one left out or done twice would show."""

from __future__ import annotations

import hashlib
import json
import time

import numpy as np

from originality.scoring import Finished, Item

STEPS = 6


class Chain:
    """Hashes an image's mean, then each hash anew, a step at a time."""

    capacity = 2

    def __init__(self, seconds: float = 0.1) -> None:
        self._seconds = seconds
        self._flying: dict[str, tuple[str, int]] = {}

    @property
    def progress(self) -> str:
        return f"{len(self._flying)} in flight"

    def admit(self, item: Item) -> None:
        self._flying[item.item_id] = (start(item), 0)

    def step(self) -> list[Finished]:
        time.sleep(self._seconds)
        self._flying = {i: (link(chain, step), step + 1) for i, (chain, step) in self._flying.items()}
        done = [(i, chain) for i, (chain, step) in self._flying.items() if step == STEPS]
        for item_id, _ in done:
            del self._flying[item_id]
        return [
            Finished(i, {"status": "judged", "chain": chain}, {"chain.txt": chain.encode()})
            for i, chain in done
        ]

    def stage(self, item_id: str) -> int:
        return self._flying[item_id][1] // 2

    def snapshot(self, item_id: str) -> bytes:
        return json.dumps(self._flying[item_id]).encode()

    def restore(self, item: Item, snapshot: bytes) -> None:
        chain, step = json.loads(snapshot)
        self._flying[item.item_id] = (chain, step)


def start(item: Item) -> str:
    return hashlib.sha256(np.asarray(item.content).tobytes()).hexdigest()


def link(chain: str, step: int) -> str:
    return hashlib.sha256(f"{chain} {step}".encode()).hexdigest()
