"""Ray itself: started where there is none, and the environment of its workers."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import ray

from cluster import ray_address
from cluster.ray_shutdown import shut_down
from originality.redaction import Masked, as_cause

_STARTS = 4
"""Times that Ray is started."""
_OBJECT_STORE_BYTES = 100 * 2**20
"""Near Ray's least: images never travel through Ray."""


class EngineError(Masked, RuntimeError):
    """The run cannot go on, through no image's fault; the message is one line."""


class Refused(EngineError):  # noqa: N818
    """A run that cannot begin with these settings, or in this environment: nothing was done yet. The message
    is one line and says the fix."""


def check_ray() -> None:
    """Checks in advance that :func:`ray_running` can do what it says; a Ray that is there is taken as it is.

    Raises:
        Refused: with the fix.
    """
    if not ray.is_initialized():
        try:
            ray_address.check(os.environ.get("RAY_ADDRESS") or None)
        except ray_address.Unusable as error:
            raise Refused(str(error)) from error


@contextmanager
def ray_running() -> Iterator[None]:
    """Ray as it is, or the cluster that ``ray job submit`` names, or one started here and ended
    afterwards.

    Raises:
        Refused: the cluster that is named does not answer or is of another version, or the environment lets
            none be started here.
        EngineError: Ray failed to start.
        KeyboardInterrupt: SIGTERM came while Ray started.
    """
    if ray.is_initialized():
        yield
        return
    check_ray()
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
                num_gpus=slices_of_gpus(),
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
        shut_down()
        _handle_sigterm(ours)


def _handle_sigterm(handler: Any) -> None:
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _join(address: str, options: dict[str, Any]) -> None:
    try:
        ray.init(**options)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(
            f"cannot use Ray at RAY_ADDRESS={address} ({reason}); start it, or {ray_address.HERE}"
        ) from error


def _start(**options: Any) -> None:
    """Starts Ray, which gives its own processes 30 s, fixed; on a very busy machine that several times."""
    _own_token()
    for left in reversed(range(_STARTS)):
        try:
            ray.init(**options)
            return
        except Exception as error:
            ray.shutdown()
            if "timed out during startup" not in str(error) or not left:
                raise EngineError(_not_started(error)) from as_cause(error)


def _not_started(error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"Ray did not start on this machine ({reason}); its logs are in /tmp/ray/session_latest/logs"


def _own_token() -> None:
    """Gives a Ray that is started here a token of this process: else Ray writes one below HOME, which may
    be read-only or unset. It stays, as Ray remembers a process's first token as long as the process lives."""
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


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


def slices_of_gpus() -> int | None:
    """GPUs that Ray is to count, where CUDA_VISIBLE_DEVICES names slices of GPUs (MIG): Ray would count the
    cards that they are of. None: what Ray finds."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return len(visible) if visible and all(name.startswith("MIG-") for name in visible) else None


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
