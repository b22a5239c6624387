"""A small real scorer: the mean colour of an image. Some colours make it fail."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from originality.contract.scorer import Finished, Item

KILLS = (255, 0, 0)
BREAKS = (0, 255, 0)
REFUSED = (0, 0, 255)
NOT_JSON = (255, 255, 0)


class MeanColour:
    """Takes ``steps`` steps of ``seconds`` for each image."""

    def __init__(self, capacity: int = 3, steps: int = 2, seconds: float = 0.0) -> None:
        self.capacity = capacity
        self.progress = ""
        self._steps = steps
        self._seconds = seconds
        self._in_flight: dict[str, tuple[Item, int]] = {}

    def admit(self, item: Item) -> None:
        assert len(self._in_flight) < self.capacity
        if _mean(item) == REFUSED:
            raise ValueError("blue is not to my taste")
        self._in_flight[item.item_id] = (item, self._steps)

    def step(self) -> list[Finished]:
        time.sleep(self._seconds)
        self.progress = f"{len(self._in_flight)} in flight"
        colours = [_mean(item) for item, _ in self._in_flight.values()]
        if KILLS in colours:
            os._exit(1)
        if BREAKS in colours:
            raise RuntimeError("green broke me")
        self._in_flight = {key: (item, left - 1) for key, (item, left) in self._in_flight.items()}
        ready = [item for item, left in self._in_flight.values() if left == 0]
        for item in ready:
            del self._in_flight[item.item_id]
        return [_finished(item, self._steps) for item in ready]

    def stage(self, item_id: str) -> int:
        """Steps done, none of which should be done twice."""
        return self._steps - self._in_flight[item_id][1]

    def snapshot(self, item_id: str) -> bytes:
        return str(self._in_flight[item_id][1]).encode()

    def restore(self, item: Item, snapshot: bytes) -> None:
        left = int(snapshot)
        if not 0 < left <= self._steps:
            raise ValueError(f"{left} steps left of {self._steps}")
        self._in_flight[item.item_id] = (item, left)


def _mean(item: Item) -> tuple[int, ...]:
    return tuple(int(v) for v in np.asarray(item.content).reshape(-1, 3).mean(axis=0))


def _finished(item: Item, steps: int) -> Finished:
    mean: list[Any] = list(_mean(item))
    tokens = 1 + mean[2] % 5
    record: dict[str, Any] = {
        "status": "judged",
        "mean": mean,
        "min_tokens": tokens if tokens < 5 else None,
        "censored": tokens == 5,
    }
    if tuple(mean) == NOT_JSON:
        record["mean"] = float("nan")
    return Finished(item.item_id, record, {"mean.txt": str(mean).encode()}, {"steps": steps})


def paint(folder: Path, name: str, colour: tuple[int, int, int]) -> Path:
    """A plain image file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    Image.new("RGB", (8, 6), colour).save(path)
    return path
