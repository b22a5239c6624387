"""A scorer of documents that counts, one number a step, and may fail on the way."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from originality.contract.scorer import Finished, Item


class Counter:
    """Counts to a document's "to". If the file "breaks" exists, it fails at the number in that file."""

    capacity = 1

    def __init__(self) -> None:
        self._held: dict[str, tuple[dict[str, Any], int, int]] = {}

    def admit(self, item: Item[dict[str, Any]]) -> None:
        self._held[item.item_id] = (item.content, 0, 0)

    def step(self) -> list[Finished]:
        time.sleep(0.005)
        finished = []
        for item_id, (content, number, began) in list(self._held.items()):
            breaks = Path(content["breaks"])
            if breaks.exists() and number == int(breaks.read_text()):
                raise RuntimeError("it broke")
            self._held[item_id] = (content, number + 1, began)
            if number + 1 == content["to"]:
                del self._held[item_id]
                finished.append(Finished(item_id, {"status": "judged", "from": began}))
        return finished

    def stage(self, item_id: str) -> int:
        return 0

    def snapshot(self, item_id: str) -> bytes:
        return str(self._held[item_id][1]).encode()

    def restore(self, item: Item[dict[str, Any]], snapshot: bytes) -> None:
        self._held[item.item_id] = (item.content, int(snapshot), int(snapshot))
