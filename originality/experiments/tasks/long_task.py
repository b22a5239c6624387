"""Long tasks on one item at a time, as a scorer that the engine drives: with snapshots and resume."""

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
    """A long task on one item. Its ``str`` describes its progress."""

    @property
    def phase(self) -> int:
        """A number that changes when a part is finished that should not be done again."""
        ...

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""

    def advance(self) -> None:
        """Work for a short while."""
        ...

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which :meth:`load` resumes to the same record."""
        ...

    def load(self, kept: Mapping[str, Any]) -> None:
        """Resume from a state.

        Raises:
            ValueError: the state is of a different task.
        """
        ...

    def record(self) -> dict[str, Any]:
        """The record of the finished task, plain JSON values."""
        ...

    def files(self) -> dict[str, bytes]:
        """The finished task's files by name."""
        ...


class OneAtATime:
    """A scorer of documents that runs one long task after the other. Implements
    originality.contract.scorer.Scorer.
    """

    capacity = 1

    def __init__(self, begin: Callable[[Document], Work]) -> None:
        self._begin = begin
        self._held: dict[str, Work] = {}
        self._seconds: dict[str, float] = {}
        """Seconds worked on each item, including by workers before."""

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
                about = {"status": "judged", "seconds": round(self._seconds.pop(item_id), 1)}
                del self._held[item_id]
                finished.append(Finished(item_id, {**about, **work.record()}, work.files()))
        return finished

    def stage(self, item_id: str) -> int:
        return self._held[item_id].phase

    def snapshot(self, item_id: str) -> bytes:
        own = {"item": item_id, "seconds": self._seconds[item_id]}
        state = {**self._held[item_id].state(), **own}
        return write_snapshot(FORMAT, lambda file: torch.save(state, file))

    def restore(self, item: Item[Document], snapshot: bytes) -> None:
        """Resume an item from its snapshot.

        Raises:
            ValueError: the snapshot is damaged, or of a different item.
        """
        body = read_snapshot(FORMAT, snapshot)
        kept = torch.load(body, weights_only=True, map_location="cpu")  # it may come from a GPU machine
        if kept.pop("item") != item.item_id:
            raise ValueError(f"the snapshot is of a different item than {item.item_id}")
        seconds = kept.pop("seconds")
        work = self._begin(item.content)
        work.load(kept)
        self._held[item.item_id], self._seconds[item.item_id] = work, seconds
