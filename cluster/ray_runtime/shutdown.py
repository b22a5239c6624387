"""The end of Ray in this process, also where Ray itself does not answer any more."""

from __future__ import annotations

import atexit
import threading
from contextlib import suppress
from typing import Any, cast

import ray

_SECONDS = 30.0
"""For which a Ray that answered so far is waited for."""
_SILENT_SECONDS = 5.0
"""For which one is that does not: soon after, it ends this process by itself."""

_silent = threading.Event()


def do_not_wait_for_ray() -> None:
    """Ray does not answer: to be said before :func:`shut_down`."""
    _silent.set()


def shut_down() -> None:
    """``ray.shutdown()``, which may wait without end for a head that does not answer: after a time a Ray that
    was started here loses its head, and after as long again it is left as it is."""
    ended = threading.Event()
    seconds = _SILENT_SECONDS if _silent.is_set() else _SECONDS
    _silent.clear()

    def end() -> None:
        with suppress(Exception):
            ray.shutdown()
        ended.set()

    threading.Thread(target=end, name="ends Ray", daemon=True).start()
    if ended.wait(seconds):
        return
    _kill_own_head()
    if not ended.wait(seconds):
        atexit.unregister(ray.shutdown)  # it would be waited for again


def _kill_own_head() -> None:
    """Kills the head of a Ray that this process started, which may hang: one that is dead is not waited for.
    Not the raylet: Ray ends a process on the spot whose raylet dies while it shuts down."""
    with suppress(Exception):  # not of Ray's public interface: whatever another version raises
        from ray._private import worker

        cast(Any, worker)._global_node.kill_gcs_server(check_alive=False)
