"""Many calls at once, whose results come in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_BATCH_PER_THREAD = 16


def map_in_order(call: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Results of ``call`` for each item, in the order of the items, computed in threads.

    Unlike ``ThreadPoolExecutor.map`` it takes the items in batches of some hundred, so that millions of them
    are never held at once.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting = iter(items)
        while batch := list(islice(waiting, threads * _BATCH_PER_THREAD)):
            yield from pool.map(call, batch)
