"""Starts and shuts down Ray in a thread that no signal reaches.

Python runs signal handlers in the main thread, whatever it is doing. An exception that a handler raises
inside Ray's C++ is lost, printed as a traceback, or ends the process by SIGABRT. So the main thread only
waits here, which may be interrupted at any time. Another thread starts Ray, lives as long as Ray does (on
Linux, Ray's processes are killed when the thread that started them ends), and shuts it down.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from cluster.ray_runtime.shutdown import shut_down

_unfinished = threading.Event()
"""Set while Ray is being started or shut down."""


def is_unfinished() -> bool:
    """Whether the main thread left while Ray was being started or shut down.

    Such a process must end by ``os._exit``: Python's normal exit would shut Ray down from a second thread.
    Ray's processes end with it.
    """
    return _unfinished.is_set()


class NoAnswer(Exception):  # noqa: N818 - a state of Ray
    """Ray neither started nor failed to start within the time limit."""


@contextmanager
def kept_by_a_thread(start: Callable[[threading.Event], None], seconds: float) -> Iterator[None]:
    """Run Ray while the context is open.

    Args:
        start: starts Ray. Gets an event that is set when the start is interrupted, so that it does not retry.
        seconds: time limit of the start, after which the thread is abandoned.

    Raises:
        NoAnswer: the start took longer. KeyboardInterrupt: Ctrl-C or SIGTERM came during the start or the
        end; Ray was shut down properly before.
            A second Ctrl-C raises it at once: see :func:`is_unfinished`.
        Exception: what ``start`` raised.
    """
    keeper = _Keeper(start)
    with _signals_noted(keeper.stopped):
        keeper.begin(seconds)
    try:
        if keeper.error is not None:
            raise keeper.error
        if keeper.stopped.is_set():
            raise KeyboardInterrupt
        yield
    except BaseException:
        keeper.stopped.set()  # so that a Ctrl-C during the shutdown below ends at once
        raise
    finally:
        with _signals_noted(keeper.stopped):
            keeper.end()
    if keeper.stopped.is_set():
        raise KeyboardInterrupt


class _Keeper:
    """The thread that starts Ray and shuts it down."""

    def __init__(self, start: Callable[[threading.Event], None]) -> None:
        self.stopped = threading.Event()
        self.error: BaseException | None = None
        self._start = start
        self._started, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray", daemon=True)

    def begin(self, seconds: float) -> None:
        """Start Ray, and wait until it has started or failed."""
        _unfinished.set()
        self._thread.start()
        if not self._started.wait(seconds):
            self.stopped.set()
            self._ending.set()  # so that it is shut down if it starts after all
            raise NoAnswer(f"no answer in {seconds:g} s")

    def end(self) -> None:
        """Shut Ray down, and wait for that."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._start(self.stopped)
        except BaseException as error:
            self.error = error
        _unfinished.clear()
        self._started.set()
        self._ending.wait()
        _unfinished.set()
        shut_down()
        _unfinished.clear()


@contextmanager
def _signals_noted(stopped: threading.Event) -> Iterator[None]:
    """While the context is open, Ctrl-C and SIGTERM only set the event. Ctrl-C when it is set interrupts."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stopped.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows signal handlers in the main thread only
        return
    before: dict[int, Any] = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
