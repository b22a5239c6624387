"""Ray, started and ended in a thread that no signal reaches.

Python runs the handlers of signals in the main thread, wherever that is. An exception that one raises inside
Ray's C++ is lost, printed as a traceback, or ends the process by SIGABRT. So the main thread only waits here,
which may be interrupted at any time, and another one starts Ray, lives as long as Ray does (on Linux, Ray's
processes are killed when the thread that started them ends) and shuts it down.
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
    """Whether somebody left while Ray was being started or shut down. Such a process must end by
    ``os._exit``: Python's own way out would shut Ray down from a second thread. Ray's processes follow it."""
    return _unfinished.is_set()


class NoAnswer(Exception):  # noqa: N818 - what Ray gave
    """Ray did not start, nor fail to, in the time it was given."""


@contextmanager
def kept_by_a_thread(start: Callable[[threading.Event], None], seconds: float) -> Iterator[None]:
    """Ray while the context is open. ``start`` starts it; it gets an event that is set when the start was
    interrupted, so that it does not try again. ``seconds``: that it may take; then it is left behind.

    Raises:
        NoAnswer: it took longer.
        KeyboardInterrupt: Ctrl-C or SIGTERM came meanwhile; Ray was shut down in good order before. A second
            Ctrl-C raises it at once: see :func:`is_unfinished`.
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
        keeper.stopped.set()  # the run is ending already
        raise
    finally:
        with _signals_noted(keeper.stopped):
            keeper.end()
    if keeper.stopped.is_set():
        raise KeyboardInterrupt


class _Keeper:
    """The thread."""

    def __init__(self, start: Callable[[threading.Event], None]) -> None:
        self.stopped = threading.Event()
        self.error: BaseException | None = None
        self._start = start
        self._started, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray", daemon=True)

    def begin(self, seconds: float) -> None:
        """Starts Ray, and waits until that is done."""
        _unfinished.set()
        self._thread.start()
        if not self._started.wait(seconds):
            self.stopped.set()
            self._ending.set()  # should it start after all
            raise NoAnswer(f"no answer in {seconds:g} s")

    def end(self) -> None:
        """Shuts Ray down, and waits until that is done."""
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
    """Ctrl-C and SIGTERM only set the event while the context is open; a Ctrl-C when it is set interrupts."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stopped.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before: dict[int, Any] = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
