"""A scorer that sleeps for each image and records when, so that time lost between images is the engine's."""

from __future__ import annotations

import time

from originality.contract.scorer import Finished, Item


class Sleeper:
    capacity = 1

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._in_flight: str | None = None
        self.progress = ""

    def admit(self, item: Item) -> None:
        self._in_flight = item.item_id

    def step(self) -> list[Finished]:
        began = time.time()
        time.sleep(self._seconds)
        assert self._in_flight is not None
        record = {"status": "judged", "began": began, "ended": time.time()}
        return [Finished(self._in_flight, record, {"artefact.bin": bytes(100_000)})]

    def stage(self, item_id: str) -> int:
        return 0

    def snapshot(self, item_id: str) -> bytes:
        return b""

    def restore(self, item: Item, snapshot: bytes) -> None:
        self.admit(item)
