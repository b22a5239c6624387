"""What is to be done now and then, beside the work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cluster.store import StoreError

_JOIN_SECONDS = 5.0


@contextmanager
def regularly(seconds: float, task: Callable[[], object]) -> Iterator[None]:
    """Calls ``task`` every so often while the context is open, in a thread of its own. What a store refuses
    is tried again the next time."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            with suppress(StoreError):
                task()

    thread = threading.Thread(target=repeat, name="regularly", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_JOIN_SECONDS)
