"""Bounds on calls that may never return: a request answered byte by byte, a mount that hangs in the kernel.

Neither can be interrupted from Python: a thread in an uninterruptible system call cannot even be killed. So
the call is made in a helper thread, which is abandoned if the call does not return in time. A thread whose
call returns after all is reused.
"""

from __future__ import annotations

import atexit
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from cluster.storage.store_errors import Outage

SLOWEST = 20_000
"""Bytes a second: a transfer that is slower counts as hung. A slow home line is four times as fast, as four
images are read at once."""
_PIECE_BYTES = 2**20
"""Read at a time, after which the progress is noted."""
LOOK_SECONDS = 1.0
"""Between two readings of the clock while a call is waited for."""
_LONGEST_LOOK = 10.0
"""Seconds that count between two readings of a clock, at most. A longer gap means that this process itself
was suspended (a closed laptop, Ctrl-Z), which says nothing about the call."""
MOST_STUCK = 64
"""Abandoned calls a process may have at once. Beyond these no call is started: each one holds a thread and a
connection or file."""
_EXIT_SECONDS = 2.0
"""How long the process waits for running calls when it exits. A call of obstore's that returns while Python
shuts down would abort the process."""

T = TypeVar("T")


class Late(Outage):
    """A call did not return within its bound. It may still be running, or be carried out later."""


class Stopwatch:
    """Seconds since it was created, not counting those in which this process was suspended.

    Between two readings at most ten seconds count, so it must be read more often than that. For use by one
    thread.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """``clock``: seconds, monotonic; by default :data:`monotonic_clock`."""
        self._clock = clock or monotonic_clock
        self._read_at = self._clock()
        self._seconds = 0.0

    def read(self) -> float:
        """Seconds so far."""
        now = self._clock()
        self._seconds += min(now - self._read_at, _LONGEST_LOOK)
        self._read_at = now
        return self._seconds


def call_within(where: str, seconds: float, call: Callable[[], T], size: int = 0) -> T:
    """Make a call in a helper thread; return what it returns, raise what it raises.

    Args:
        where: the file or object, for the message.
        seconds: how long the call may take, beside the time for its bytes.
        size: bytes that it sends, or fetches in one go. For bytes fetched in pieces see
            :func:`bytes_arrived`.

    Raises:
        Late: the call did not return in time.
    """
    job = _Job(call, seconds + size / SLOWEST)
    if not _begin(job):
        raise Late(f"{where}: {MOST_STUCK} earlier requests and reads still hang")
    watch = Stopwatch()
    taken = 0.0
    try:
        while not job.done.wait(min(LOOK_SECONDS, max(0.0, job.seconds - taken))):
            taken = watch.read()
            if taken >= job.seconds:
                raise Late(f"{where}: {job.so_far()} in {taken:.0f} s")
    except BaseException:  # also KeyboardInterrupt: the thread must not count as running
        _abandon(job)
        raise
    return job.result()


def expect_bytes(size: int) -> None:
    """Note how many bytes the current call of this thread will fetch, for the message."""
    if (job := _current()) is not None:
        job.size = size


def bytes_arrived(count: int) -> None:
    """Note bytes fetched by the current call of this thread, which extends its bound.

    Raises:
        Late: the caller has given up waiting.
    """
    if (job := _current()) is not None:
        job.arrived += count
        job.seconds += count / SLOWEST
        if job.is_abandoned:
            raise Late("the caller has given up waiting")


def read_in_pieces(file: Any, most: int | None = None) -> bytes:
    """The rest of a file, or of a boto3 response body; each piece extends the bound of the current call.

    Args:
        most: bytes to read at most; None: no limit.
    """
    pieces = []
    left = sys.maxsize if most is None else most
    while piece := file.read(min(_PIECE_BYTES, left)):
        bytes_arrived(len(piece))
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


class _Job(Generic[T]):
    """One call in a helper thread."""

    def __init__(self, call: Callable[[], T], seconds: float) -> None:
        self.seconds = seconds
        """How long it may take; grows as bytes arrive."""
        self.size: int | None = None
        self.arrived = 0
        self.is_abandoned = False
        self.done = threading.Event()
        self._call = call
        self._value: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        _local.job = self
        try:
            self._value = self._call()
        except BaseException as error:  # raised again by result(); obstore raises some that are no Exception
            self._error = error
        finally:
            _local.job = None

    def result(self) -> T:
        # Its traceback refers to this object: keeping it would make a cycle that holds the returned bytes.
        error, self._error = self._error, None
        if error is not None:
            raise error
        return cast(T, self._value)

    def so_far(self) -> str:
        return "no answer" if self.size is None else f"{self.arrived} of {self.size} bytes arrived"


_local = threading.local()
_lock = threading.Lock()
_idle: list[queue.SimpleQueue[_Job[Any]]] = []
"""Queues of the helper threads that have no call at the moment."""
_running: set[_Job[Any]] = set()
monotonic_clock: Callable[[], float] = time.monotonic
"""Seconds of a :class:`Stopwatch` that is given no clock; replaced by tests."""


def _current() -> _Job[Any] | None:
    return getattr(_local, "job", None)


def _begin(job: _Job[Any]) -> bool:
    """Start a call in a helper thread; False if too many calls hang already."""
    with _lock:
        if sum(other.is_abandoned for other in _running) >= MOST_STUCK:
            return False
        _running.add(job)
        jobs = _idle.pop() if _idle else None
    if jobs is None:
        jobs = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(jobs,), name="bounded call", daemon=True).start()
    jobs.put(job)
    return True


def _serve(jobs: queue.SimpleQueue[_Job[Any]]) -> None:
    while True:
        job = jobs.get()
        job.run()
        with _lock:
            _running.discard(job)
            _idle.append(jobs)
        job.done.set()
        del job  # else this thread would hold what the call returned until its next call


def _abandon(job: _Job[Any]) -> None:
    with _lock:
        job.is_abandoned = True


def _at_exit() -> None:
    """Wait a moment for the running calls (see _EXIT_SECONDS)."""
    watch = Stopwatch(time.monotonic)
    with _lock:
        running = list(_running)
    for job in running:
        job.done.wait(max(0.0, _EXIT_SECONDS - watch.read()))


def _after_fork() -> None:
    """Forget the helper threads: a forked process has none of its parent's threads, and one of them may have
    held the lock."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()
    _running.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
