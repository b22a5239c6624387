"""Long work on one item at a time, as the engine drives it: begun, advanced, kept, gone on with, told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from originality.contract.scorer import Finished, Item
from originality.contract.snapshot_file import read_snapshot, write_snapshot

FORMAT = b"originality-work-1\n"

Document = Mapping[str, Any]
"""Plain JSON values."""


class Work(Protocol):
    """What is done for one item. ``str`` of it says how far it is."""

    @property
    def phase(self) -> int:
        """Changes whenever something is finished that should not be done twice."""
        ...

    @property
    def done(self) -> bool: ...

    def advance(self) -> None:
        """Works for a short while."""
        ...

    def state(self) -> dict[str, Any]:
        """Tensors and plain values, from which :meth:`load` goes on to the same record."""
        ...

    def load(self, kept: Mapping[str, Any]) -> None:
        """Goes on from a state.

        Raises:
            ValueError: it is another work's.
        """
        ...

    def record(self) -> dict[str, Any]:
        """What is said of it when it is done."""
        ...

    def files(self) -> dict[str, bytes]:
        """Artefacts by name."""
        ...


class OneAtATime:
    """Does one item's work after the other's. Implements originality.contract.scorer.Scorer of documents."""

    capacity = 1

    def __init__(self, begin: Callable[[Document], Work]) -> None:
        self._begin = begin
        self._held: dict[str, Work] = {}
        self._seconds: dict[str, float] = {}
        """Worked on each item, by all who did."""

    @property
    def progress(self) -> str:
        return ", ".join(str(work) for work in list(self._held.values()))

    def admit(self, item: Item[Document]) -> None:
        self._held[item.item_id], self._seconds[item.item_id] = self._begin(item.content), 0.0

    def step(self) -> list[Finished]:
        finished = []
        for item_id, work in list(self._held.items()):
            started = time.monotonic()
            work.advance()
            self._seconds[item_id] += time.monotonic() - started
            if work.done:
                said = {"status": "judged", "seconds": round(self._seconds.pop(item_id), 1)}
                del self._held[item_id]
                finished.append(Finished(item_id, {**said, **work.record()}, work.files()))
        return finished

    def stage(self, item_id: str) -> int:
        return self._held[item_id].phase

    def snapshot(self, item_id: str) -> bytes:
        own = {"item": item_id, "seconds": self._seconds[item_id]}
        state = {**self._held[item_id].state(), **own}
        return write_snapshot(FORMAT, lambda file: torch.save(state, file))

    def restore(self, item: Item[Document], snapshot: bytes) -> None:
        """Raises:
        ValueError: the snapshot is damaged, or another item's.
        """
        body = read_snapshot(FORMAT, snapshot)
        kept = torch.load(body, weights_only=True, map_location="cpu")  # it may have been made on a GPU
        if kept.pop("item") != item.item_id:
            raise ValueError("the snapshot is another item's")
        seconds = kept.pop("seconds")
        work = self._begin(item.content)
        work.load(kept)
        self._held[item.item_id], self._seconds[item.item_id] = work, seconds
