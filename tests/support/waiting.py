"""Waiting in tests. A machine may be busy with anything, so no test judges how long something takes: it waits
until it has happened, and gives up only where nothing can come any more."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

PATIENCE = 600.0
"""Seconds after which a wait is taken for a hang; also the ``timeout`` of subprocesses and sockets."""


def until(
    happened: Callable[[], object], process: subprocess.Popen | None = None, every: float = 0.02
) -> None:
    """Return when ``happened()`` is true.

    Args:
        process: what has to be running meanwhile.
        every: seconds between two looks.
    """
    give_up = time.monotonic() + PATIENCE
    while not happened():
        assert process is None or process.poll() is None, f"ended with code {process.returncode}"
        assert time.monotonic() < give_up, f"nothing happened in {PATIENCE:g} s"
        time.sleep(every)
