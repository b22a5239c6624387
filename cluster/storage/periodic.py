"""Tasks that run periodically in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.storage.store import StoreError

_JOIN_SECONDS = 5.0

_log = logging.getLogger(__name__)


@contextmanager
def regularly(seconds: float, task: Callable[[], object]) -> Iterator[None]:
    """Call ``task`` every ``seconds`` while the context is open, in a separate thread.

    A call that fails is retried at the next interval. No error ends the thread: nobody would notice before
    the context closes that the task is not done any more.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            try:
                task()
            except StoreError:
                pass  # the work in the context meets the same outage, and reports it
            except Exception as error:
                _log.warning(
                    "a periodic task failed; retrying in %.0f s: %s: %s", seconds, type(error).__name__, error
                )

    thread = threading.Thread(target=repeat, name="regularly", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_JOIN_SECONDS)
