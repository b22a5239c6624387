"""Ray itself: started where there is none, and the environment of its workers."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import ray

_OBJECT_STORE_BYTES = 100 * 2**20
"""Near Ray's least: images never travel through Ray."""


_ANSWER_SECONDS = 10.0


class EngineError(RuntimeError):
    """The run cannot go on, through no image's fault; the message is one line."""


@contextmanager
def ray_running() -> Iterator[None]:
    """Ray as it is, or the cluster that ``ray job submit`` names, or one started here and ended
    afterwards.

    Raises:
        EngineError: the cluster that is named does not answer.
        KeyboardInterrupt: SIGTERM came while Ray started.
    """
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    ours = signal.getsignal(signal.SIGTERM)
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _join(address, quiet)
        else:
            # "local": without it Ray would join any cluster that happens to run on this machine.
            _start(
                address="local",
                include_dashboard=False,
                num_cpus=available_cpus(),
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
    except SystemExit as stop:  # by the handler that ray.init has put in place half-way
        ray.shutdown()
        raise KeyboardInterrupt from stop
    _handle_sigterm(ours)  # ray.init has put its own in place
    try:
        yield
    finally:
        ray.shutdown()
        _handle_sigterm(ours)


def _handle_sigterm(handler: Any) -> None:
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _join(address: str, options: dict[str, Any]) -> None:
    """Joins a cluster; Ray itself waits without end for one that is gone."""
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
        ray.init(**options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise EngineError(
            f"no Ray to be had at {address} ({reason}); start it, or unset RAY_ADDRESS to run on this machine"
        ) from error


def _start(**options: Any) -> None:
    """Starts Ray, which gives its own processes 30 s, fixed; on a very busy machine, twice that."""
    try:
        ray.init(**options)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()
        ray.init(**options)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C interrupts in earnest.

    To be entered after ``ray.init``, which installs its own SIGTERM handler.
    """
    stopping = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stopping.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopping.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopping  # only the main thread may handle signals
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def available_cpus() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS does not say


def worker_environment(threads: int) -> dict[str, str]:
    """What must be in a worker's environment when its process starts, where the user did not
    choose otherwise: threads that do not spin while they wait, and big tensors kept in the heap
    instead of mapped and unmapped in every step (0.36 s a step became 0.29 s)."""
    chosen = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
    }
    return {name: os.environ.get(name, value) for name, value in chosen.items()}
