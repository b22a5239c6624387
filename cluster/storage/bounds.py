"""Bounds on calls that may never return: a request whose answer drips, a mount that hangs in the kernel.

Neither can be interrupted from Python. So the call is made in a helper thread, which is left behind if the
call is not done in time; a thread whose call returns after all is used again.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from cluster.storage.store_errors import Outage

SLOWEST = 20_000
"""Bytes a second: what is sent or arrives more slowly counts as hung. A slow home line is four times as fast,
as four images are read at once."""
_LOOK_SECONDS = 1.0
"""Between two looks at the time."""
_LONGEST_LOOK = 10.0
"""Seconds that count between two looks at most; in more than that the process itself was suspended."""
_MOST_STUCK = 64
"""Calls that may be stuck at once in a process; beyond these none is begun."""
_EXIT_SECONDS = 2.0
"""For how long calls that are under way are waited for when the process ends. One that returns while Python
shuts down would abort the process from within the stores' driver."""

T = TypeVar("T")


class Late(Outage):
    """A call was not done within its bound. It may still be under way, or be carried out later."""


class Stopwatch:
    """Seconds since it was made, without those in which this process was suspended: between two readings few
    count. For use by one thread."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """``clock``: for tests; monotonic."""
        self._clock = clock or _clock
        self._read_at = self._clock()
        self._seconds = 0.0

    def read(self) -> float:
        now = self._clock()
        self._seconds += min(now - self._read_at, _LONGEST_LOOK)
        self._read_at = now
        return self._seconds


def within(where: str, seconds: float, call: Callable[[], T], size: int = 0) -> T:
    """What a call returns, or raises.

    Args:
        where: what it is about, for the message.
        seconds: how long it may take, beside the time for its bytes.
        size: bytes that it sends, or fetches in one go; of what it fetches in pieces, see :func:`arrived`.

    Raises:
        Late: it is not done in time.
    """
    job = _Job(call, seconds + size / SLOWEST)
    if not _begin(job):
        raise Late(f"{where}: {_MOST_STUCK} other requests and reads hang already")
    watch = Stopwatch()
    taken = 0.0
    try:
        while not job.done.wait(min(_LOOK_SECONDS, max(0.0, job.seconds - taken))):
            taken = watch.read()
            if taken >= job.seconds:
                raise Late(f"{where}: {job.so_far()} in {taken:.0f} s")
    except BaseException:  # Ctrl-C too
        _leave_behind(job)
        raise
    return job.result()


def expect(size: int) -> None:
    """Notes how many bytes the call that this thread makes will fetch, for the message."""
    if (job := _current()) is not None:
        job.size = size


def arrived(count: int) -> None:
    """Notes bytes of the call that this thread makes: it may take the longer.

    Raises:
        Late: nobody waits for them any more.
    """
    if (job := _current()) is not None:
        job.arrived += count
        job.seconds += count / SLOWEST
        if job.is_left:
            raise Late("nobody waits for this any more")


class _Job(Generic[T]):
    """One call in a helper thread."""

    def __init__(self, call: Callable[[], T], seconds: float) -> None:
        self.seconds = seconds
        """How long it may take."""
        self.size: int | None = None
        self.arrived = 0
        self.is_left = False
        self.done = threading.Event()
        self._call = call
        self._value: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        _local.job = self
        try:
            self._value = self._call()
        except BaseException as error:  # the caller's; drivers raise some that are no Exception
            self._error = error
        finally:
            _local.job = None

    def result(self) -> T:
        error, self._error = self._error, None  # whose traceback leads back here
        if error is not None:
            raise error
        return cast(T, self._value)

    def so_far(self) -> str:
        return "no answer" if self.size is None else f"{self.arrived} of {self.size} bytes arrived"


_local = threading.local()
_lock = threading.Lock()
_idle: list[queue.SimpleQueue[_Job[Any]]] = []
"""Ways to helper threads that wait for a call."""
_running: set[_Job[Any]] = set()
_clock: Callable[[], float] = time.monotonic


def _current() -> _Job[Any] | None:
    return getattr(_local, "job", None)


def _begin(job: _Job[Any]) -> bool:
    """Whether a helper thread makes the call."""
    with _lock:
        if sum(other.is_left for other in _running) >= _MOST_STUCK:
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
        del job  # and what it returned


def _leave_behind(job: _Job[Any]) -> None:
    with _lock:
        job.is_left = True


def _at_exit() -> None:
    watch = Stopwatch(time.monotonic)
    with _lock:
        running = list(_running)
    for job in running:
        job.done.wait(max(0.0, _EXIT_SECONDS - watch.read()))


def _after_fork() -> None:
    """A forked process has none of its parent's threads."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()
    _running.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
