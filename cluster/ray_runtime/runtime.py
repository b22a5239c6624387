"""Ray itself: started where there is none, and the environment of its workers."""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

import ray
from ray._private import ray_constants

from cluster.ray_runtime import ray_address
from cluster.ray_runtime.thread import NoAnswer, kept_by_a_thread
from originality.contract.redaction import Masked, as_cause

_STARTS = 4
"""Attempts to start Ray."""
START_SECONDS = 300.0
"""Time limit to start Ray here, all attempts together, or to join a cluster. Ray itself waits longer for a
head that does not accept its token."""
_OBJECT_STORE_BYTES = 100 * 2**20
"""Near Ray's minimum, as images are never passed through Ray."""
_CLUSTER_SWITCH = "ENABLE_RAY_CLUSTER"
"""Name of Ray's constant that says whether its ports are open to other machines."""


class EngineError(Masked, RuntimeError):
    """The run cannot continue, and no image is the cause; the message is one line."""


class Refused(EngineError):  # noqa: N818
    """The run cannot start with these settings, or in this environment. Nothing was done yet. The message is
    one line and says the fix."""


def check_ray() -> None:
    """Check in advance that :func:`ray_running` will work. A Ray that is connected already is not checked.

    Raises:
        Refused: with the fix.
    """
    if not ray.is_initialized():
        try:
            ray_address.check(ray_address.cluster_address())
        except ray_address.Unusable as error:
            raise Refused(str(error)) from error


@contextmanager
def ray_running() -> Iterator[None]:
    """Connect to Ray while the context is open.

    Uses the Ray that this process is connected to, else the cluster that the environment names (as ``ray job
    submit`` does), else starts one here and ends it afterwards. One that is started here is for this process
    alone: all its ports are bound to loopback, and need a token that only this process and its children know.

    Raises:
        Refused: the named cluster does not answer or has a different version, or this environment does not
            allow to start one.
        EngineError: Ray failed to start.
        KeyboardInterrupt: Ctrl-C or SIGTERM came while Ray started.
    """
    if ray.is_initialized():
        yield
        return
    check_ray()
    # Before it reads logging_level, Ray logs that it does not install a handler for SIGTERM.
    logging.getLogger("ray").setLevel(logging.ERROR)
    address = ray_address.cluster_address()
    start = functools.partial(_join, address) if address else start_ray
    with ExitStack() as stack:
        try:
            stack.enter_context(kept_by_a_thread(start, START_SECONDS))
        except NoAnswer as silence:
            if not address:
                raise EngineError(_not_started(silence)) from silence
            raise Refused(
                f"cannot use Ray at RAY_ADDRESS={address} ({silence}; RAY_AUTH_TOKEN may not be its token); "
                f"start it, or {ray_address.HERE}"
            ) from silence
        yield


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


def _join(address: str, stopped: threading.Event) -> None:
    try:
        ray.init(**_QUIET)  # which reads RAY_ADDRESS itself
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(
            f"cannot use Ray at RAY_ADDRESS={address} ({reason}); start it, or {ray_address.HERE}"
        ) from as_cause(error)


def start_ray(stopped: threading.Event) -> None:
    """Start Ray. It gives its own processes a fixed 30 s, so on a very busy machine it takes several
    attempts."""
    _own_token()
    for left in reversed(range(_STARTS)):
        try:
            with _on_loopback():
                # Without "local" Ray would join any cluster that happens to run on this machine.
                ray.init(
                    address="local",
                    include_dashboard=False,
                    num_cpus=available_cpus(),
                    num_gpus=slices_of_gpus(),
                    object_store_memory=_OBJECT_STORE_BYTES,
                    **_QUIET,
                )
            _check_loopback(ray.get_runtime_context().gcs_address)
            return
        except EngineError:
            ray.shutdown()
            raise
        except Exception as error:
            ray.shutdown()
            if "timed out during startup" not in str(error) or not left or stopped.is_set():
                raise EngineError(_not_started(error)) from as_cause(error)


def _not_started(error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"Ray did not start on this machine ({reason}); its logs are in /tmp/ray/session_latest/logs"


def _own_token() -> None:
    """Make a Ray that is started here refuse everyone who does not have a token of this process.

    Ray does so by default since 2.59, unless RAY_AUTH_MODE says otherwise, which the environment may set for
    a cluster elsewhere. Without a token in the environment Ray would write one below HOME, which may be
    read-only or unset. The token is not removed afterwards, as Ray remembers a process's first token for its
    lifetime.
    """
    os.environ.pop("RAY_AUTH_MODE", None)
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Make Ray bind all its ports to loopback, as it does by default on macOS and Windows.

    On Linux, Ray 2.60 listens on all interfaces: driver, GCS, raylet, each worker, and its agent's metrics,
    which need no token. An address given to ``ray.init`` does not change that, as Ray replaces a loopback
    address by the machine's.

    Raises:
        Refused: this version of Ray does not have that switch, which is not in its public interface.
    """
    before = getattr(ray_constants, _CLUSTER_SWITCH, None)
    if before is None:
        raise Refused(_not_on_loopback("has no switch for it"))
    setattr(ray_constants, _CLUSTER_SWITCH, False)
    try:
        yield
    finally:
        setattr(ray_constants, _CLUSTER_SWITCH, before)


def _check_loopback(address: str) -> None:
    """Check that a Ray that was started here listens on loopback: in another version the switch may do
    nothing.

    Raises:
        Refused: it does not.
    """
    host = address.rpartition(":")[0].strip("[]")
    with suppress(ValueError):  # a host name, and not an IP address
        if ipaddress.ip_address(host).is_loopback:
            return
    if host != "localhost":
        raise Refused(_not_on_loopback(f"listens at {address}"))


def _not_on_loopback(found: str) -> str:
    return (
        f"Ray {ray.__version__} cannot be kept on this machine's loopback (it {found}); install the version "
        "that constraints.txt names"
    )


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set. A second Ctrl-C raises KeyboardInterrupt.

    Enter it when Ray runs already: ``ray.init`` may have replaced the handler of SIGTERM.
    """
    stopping = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stopping.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopping.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopping  # Python allows signal handlers in the main thread only
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def available_cpus() -> int:
    """Return the number of cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS does not tell


def slices_of_gpus() -> int | None:
    """Return the number of GPU slices (MIG) if CUDA_VISIBLE_DEVICES names such: Ray would count the GPUs
    that they are part of. None: Ray counts by itself."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return len(visible) if visible and all(name.startswith("MIG-") for name in visible) else None


def worker_environment(threads: int) -> dict[str, str]:
    """Return environment variables that a worker's process must have when it starts; those that the user has
    set keep their value.

    They make threads sleep instead of spin while they wait, and keep large tensors in the heap instead of
    mapping and unmapping memory in every step (0.36 s a step became 0.29 s).
    """
    chosen = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
    }
    return {name: os.environ.get(name, value) for name, value in chosen.items()}
