"""A cheap scorer whose record depends on each of its steps, so that a step left out or done twice shows."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping

import numpy as np

from originality.contract.scorer import Finished, Item
from tests.chaos import clock, limits

STEPS = 6
NODE = "CHAOS_NODE"
"""Environment variable with the machine of the stage that a worker is on."""


class Chain:
    """Hashes an image's mean, then each hash again, one hash per step."""

    capacity = 2

    def __init__(self, seconds: float = 0.15) -> None:
        self._seconds = seconds
        self._in_flight: dict[str, tuple[str, int]] = {}

    @property
    def progress(self) -> str:
        return f"{len(self._in_flight)} in flight"

    def admit(self, item: Item) -> None:
        self._in_flight[item.item_id] = (start(item), 0)

    def step(self) -> list[Finished]:
        time.sleep(self._seconds)
        self._in_flight = {i: (link(chain, step), step + 1) for i, (chain, step) in self._in_flight.items()}
        done = [(i, chain) for i, (chain, step) in self._in_flight.items() if step == STEPS]
        for item_id, _ in done:
            del self._in_flight[item_id]
        return [self._finished(item_id, chain) for item_id, chain in done]

    def _finished(self, item_id: str, chain: str) -> Finished:
        """Marks record and artefact with this attempt, so that a record beside a different attempt's artefact
        shows."""
        mark = uuid.uuid4().hex
        record = {"status": "judged", "min_tokens": 1, "chain": chain, "mark": mark}
        return Finished(item_id, record, {"chain.txt": f"{chain} {mark}".encode()})

    def stage(self, item_id: str) -> int:
        return self._in_flight[item_id][1] // 2

    def snapshot(self, item_id: str) -> bytes:
        return packed(*self._in_flight[item_id])

    def restore(self, item: Item, snapshot: bytes) -> None:
        self._in_flight[item.item_id] = unpacked(snapshot)


def build(clocks: Mapping[str, float]) -> Chain:
    """Builds a worker's scorer. ``clocks``: seconds by which each machine's clock is wrong."""
    limits.shorten("cluster")
    if seconds := clocks.get(os.environ.get(NODE, "")):
        clock.set_forward(seconds)
    return Chain()


def packed(chain: str, step: int) -> bytes:
    return json.dumps([chain, step, link(chain, step)]).encode()


def unpacked(snapshot: bytes) -> tuple[str, int]:
    """Raises:
    ValueError: it is damaged.
    """
    try:
        chain, step, check = json.loads(snapshot)
    except TypeError as error:
        raise ValueError("not a snapshot") from error
    if check != link(chain, step):
        raise ValueError("checksum mismatch")
    return chain, step


def start(item: Item) -> str:
    return hashlib.sha256(np.asarray(item.content).tobytes()).hexdigest()


def link(chain: str, step: int) -> str:
    return hashlib.sha256(f"{chain} {step}".encode()).hexdigest()
