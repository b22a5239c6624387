from __future__ import annotations

import threading
from collections.abc import Iterator

from cluster.storage.parallel import map_in_order
from tests.support.waiting import PATIENCE


def test_results_come_in_the_order_of_the_items() -> None:
    second_is_done = threading.Event()

    def call(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(PATIENCE)
        second_is_done.set()
        return item * item

    assert list(map_in_order(call, range(200), threads=2)) == [item * item for item in range(200)]


def test_items_are_taken_when_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(10_000):
            taken.append(item)
            yield item

    assert next(map_in_order(abs, items(), threads=2)) == 0
    assert len(taken) < 1_000
