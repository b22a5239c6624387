"""The identity of a process, by which another process can tell for certain that it has ended.

A host name and a process id are not enough. Containers may share a host name, and each counts its processes
from 1; ids are reused after a while, and after each reboot. So the identity also holds the machine's boot,
the namespace of process ids, and the start time of the process.
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

PROC = Path("/proc")
"""Where Linux describes its processes; does not exist on macOS."""
_STATE, _START = 0, 19
"""Fields of /proc/PID/stat, counted from the one behind the program's name."""
_ENDED = ("Z", "X")
"""States of a process that has ended but keeps its id until its parent has fetched its exit status."""


def this_process() -> dict[str, Any]:
    """The identity of this process, as plain JSON values."""
    pid = os.getpid()
    return {**_here(), "pid": pid, "started": start_time(pid)}


def ended_here(identity: Mapping[str, Any]) -> bool:
    """Whether a process with this identity (see :func:`this_process`) has certainly ended.

    That can be known only of processes whose ids are counted in the same namespace of the same machine. False
    if in doubt: for other machines and containers, and for incomplete identities.
    """
    pid, started = identity.get("pid"), identity.get("started")
    if any(value is None or identity.get(name) != value for name, value in _here().items()):
        return False
    if not isinstance(pid, int) or isinstance(pid, bool) or pid < 1 or started is None:
        return False
    now = start_time(pid)
    if now is None:  # not readable, perhaps only for lack of permission
        return not psutil.pid_exists(pid)
    return now != started


@cache
def _here() -> dict[str, Any]:
    """What all processes share whose ids are counted in the same place."""
    return {"host": socket.gethostname(), "boot": _boot(), "namespace": _namespace()}


def _boot() -> str:
    """The id of the machine's boot; a different one after each.

    On a system without such ids it is the time of the boot. As that moves when the clock is set, a process
    from before is not recognised then, and counts as alive until its heartbeat is stale.
    """
    with suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return str(round(psutil.boot_time()))


def _namespace() -> int:
    """The namespace of process ids; 0 on a system with only one."""
    with suppress(OSError):
        return (PROC / "self/ns/pid").stat().st_ino
    return 0


def start_time(pid: int) -> float | None:
    """When a process was started, in a unit of the system's; -1 if it has ended, None if it does not exist or
    cannot be inspected.

    On Linux in clock ticks since the boot: the date that psutil computes from them moves when the clock is
    set.
    """
    if (PROC / "self/stat").exists():
        try:
            stat = (PROC / f"{pid}/stat").read_text(errors="replace")
        except OSError:
            return None
        # The program's name stands in brackets and may contain anything, brackets too.
        fields = stat.rpartition(")")[2].split()
        state, start = fields[_STATE], fields[_START]
        return -1.0 if state in _ENDED else float(start)
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None
