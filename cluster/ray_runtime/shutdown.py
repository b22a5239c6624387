"""Shuts Ray down in this process, also if Ray itself does not answer any more."""

from __future__ import annotations

import atexit
import threading
from contextlib import suppress
from typing import Any, cast

import ray

_SECONDS = 30.0
"""For how long a Ray that answered so far is waited for."""
SILENT_SECONDS = 5.0
"""For how long one is that does not answer: soon after, it ends this process by itself."""

ray_is_silent = threading.Event()
"""Set while Ray is known not to answer; :func:`shut_down` clears it."""


def do_not_wait_for_ray() -> None:
    """Make the next :func:`shut_down` wait only briefly, as Ray does not answer."""
    ray_is_silent.set()


def shut_down() -> None:
    """Call ``ray.shutdown()`` with a time limit.

    The call may wait for ever for a head that does not answer. When the limit is reached the head is killed,
    if this process started it; when it is reached again Ray is left as it is.
    """
    ended = threading.Event()
    seconds = SILENT_SECONDS if ray_is_silent.is_set() else _SECONDS
    ray_is_silent.clear()

    def end() -> None:
        with suppress(Exception):
            ray.shutdown()
        ended.set()

    threading.Thread(target=end, name="Ray shutdown", daemon=True).start()
    if ended.wait(seconds):
        return
    kill_own_head()
    if not ended.wait(seconds):
        atexit.unregister(ray.shutdown)  # it would wait again when Python exits


def kill_own_head() -> None:
    """Kill the head of a Ray that this process started: Ray does not wait for one that is dead.

    Not the raylet: Ray ends a process on the spot if its raylet dies while it shuts down.
    """
    with suppress(Exception):  # not in Ray's public interface: another version may raise anything
        from ray._private import worker

        cast(Any, worker)._global_node.kill_gcs_server(check_alive=False)
