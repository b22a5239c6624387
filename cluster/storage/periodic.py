"""What is to be done now and then, beside the work."""

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
    """Calls ``task`` every so often while the context is open, in a thread of its own. What fails is tried
    again the next time: no error ends the thread, as nobody would notice before the end."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            try:
                task()
            except StoreError:
                pass  # the work itself meets it, and says so
            except Exception as error:
                _log.warning("tried again in %.0f s: %s: %s", seconds, type(error).__name__, error)

    thread = threading.Thread(target=repeat, name="regularly", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_JOIN_SECONDS)
