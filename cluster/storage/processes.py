"""Which process is meant: told so that another process can say for certain that it has ended.

A host name and a process id are not enough. Containers share host names and each count their processes from
1; ids are given again after a while, and after each start of the machine. So a process also tells the
machine's start, the namespace in which its id is counted, and when it was started itself.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_PROC = Path("/proc")
_STATE, _START = 0, 19
"""Fields of /proc/PID/stat, counted from behind the program's name."""
_ENDED = ("Z", "X")
"""States of a process that has ended and still has its id, as its parent has not asked how it ended."""


def this_process() -> dict[str, Any]:
    """What identifies this process, as plain JSON values."""
    pid = os.getpid()
    return {**_here(), "pid": pid, "started": _started(pid)}


def ended_here(told: Mapping[str, Any]) -> bool:
    """Whether the process that told :func:`this_process` of itself ran where its id means the same as here,
    and has ended. False where that is not certain: of another machine or container, or told by halves."""
    pid, started = told.get("pid"), told.get("started")
    if any(value is None or told.get(name) != value for name, value in _here().items()):
        return False
    if not isinstance(pid, int) or isinstance(pid, bool) or pid < 1 or started is None:
        return False
    now = _started(pid)
    if now is None:  # it cannot be looked at, which may be for want of rights
        return not psutil.pid_exists(pid)
    return now != started


@cache
def _here() -> dict[str, Any]:
    """What those have in common to whom a process id means the same."""
    return {"host": socket.gethostname(), "boot": _boot(), "namespace": _namespace()}


def _boot() -> str:
    """Another after each start of the machine. Where the system has no id for that, it is the time of the
    start: as that moves with the clock, a process from before the clock was set is not recognised."""
    with suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return str(round(psutil.boot_time()))


def _namespace() -> int:
    """In which process ids are counted; 0 where the system has but one."""
    with suppress(OSError):
        return (_PROC / "self/ns/pid").stat().st_ino
    return 0


def _started(pid: int) -> float | None:
    """When a process was started, in a unit of the system's; None where there is no such process that is not
    ended, or it cannot be looked at. On Linux in clock ticks since the machine's start, as the date that
    psutil makes of them moves with the clock."""
    if (_PROC / "self/stat").exists():
        try:
            said = (_PROC / f"{pid}/stat").read_text(errors="replace")
        except OSError:
            return None
        # the program's name, in brackets, may hold anything, brackets included
        fields = said.rpartition(")")[2].split()
        state, start = fields[_STATE], fields[_START]
        return -1.0 if state in _ENDED else float(start)
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None
