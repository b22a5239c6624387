"""Checks whether Ray itself is still alive, and gives each of its calls a time limit.

Many calls of Ray wait for ever for a head that has died. A cluster loses machines and gets others, so it is
waited for as long as its head answers. A Ray that was started here for one run has one machine: once that is
gone, none will come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import ray

from cluster.ray_runtime.observer_clock import ObserverClock
from cluster.ray_runtime.runtime import EngineError
from cluster.ray_runtime.shutdown import do_not_wait_for_ray

T = TypeVar("T")

ANSWER_SECONDS = 45.0
"""For how long an answer of Ray's head is waited for. Must be under 60: after 60 s without a head, Ray ends
this process on the spot, and nothing could be saved."""
LOOK_SECONDS = 5.0
"""Between two checks."""
GONE_SECONDS = 60.0
"""For how long a Ray that was started here may report no machine. Ray takes a machine that hangs for dead,
and may then report it alive again."""

_VITAL = ("gcs_server", "raylet")
"""Processes without which Ray cannot work."""


class RayHealth:
    """Checks Ray again and again during a run."""

    def __init__(self, clock: ObserverClock, on_cluster: bool) -> None:
        """``on_cluster``: as of :func:`cluster.ray_runtime.ray_address.on_cluster`."""
        self._clock = clock
        self._on_cluster = on_cluster
        self._asked: _Call[list[dict[str, Any]]] | None = None
        self._asked_at = 0.0
        self._alive_at = clock.now()

    def check(self) -> None:
        """Check Ray without waiting. Called in each round of the driver's loop.

        Raises:
            EngineError: Ray has ended, or its head does not answer.
        """
        if ended := ended_here():
            raise _gone(f"Ray on this machine has ended (its {' and '.join(ended)} died)")
        now = self._clock.now()
        if self._asked is None:
            if now - self._asked_at >= LOOK_SECONDS:
                self._asked, self._asked_at = _Call(ray.nodes), now
            return
        if not self._asked.ended.is_set():
            if now - self._asked_at > ANSWER_SECONDS:
                raise _silent("which machines it has")
            return
        nodes, self._asked = self._asked.value or [], None
        if self._on_cluster or any(node["Alive"] for node in nodes):
            self._alive_at = now
        elif now - self._alive_at > GONE_SECONDS:
            raise _gone("Ray on this machine has ended (it has no machine any more)")


def ended_here() -> list[str]:
    """Return the names of Ray's processes that this process started and that have died; none if Ray was not
    started here."""
    try:  # not in Ray's public interface, which cannot tell
        from ray._private import worker

        node = cast(Any, worker)._global_node
        dead = [] if node is None else [name for name, _ in node.dead_processes()]
    except Exception:  # whatever another version raises
        return []
    return [name for name in dead if name in _VITAL]


def nodes() -> list[dict[str, Any]]:
    """``ray.nodes()``.

    Raises:
        EngineError: Ray's head does not answer.
    """
    return bounded(lambda: ray.nodes(), "which machines it has")


def machines_of_actors() -> dict[str, str]:
    """Return, by the id of each actor of this driver, Ray's id of the machine on which it has a process.

    An actor that waits for a machine is missing. All are where this version of Ray does not tell.

    Raises:
        EngineError: Ray's head does not answer.
    """
    try:  # not in Ray's public interface, which would need the dashboard
        from ray._private import state

        job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
        actors = bounded(lambda: cast(Any, state).actors(job_id=job), "where workers are")
        addresses = {actor_id: about["Address"] for actor_id, about in actors.items()}
        return {actor_id: address["NodeID"] for actor_id, address in addresses.items() if address.get("Port")}
    except EngineError:
        raise
    except Exception:  # whatever another version raises
        return {}


def resources() -> dict[str, float]:
    """``ray.cluster_resources()``.

    Raises:
        EngineError: Ray's head does not answer.
    """
    return bounded(lambda: ray.cluster_resources(), "what there is")


def bounded(call: Callable[[], T], what: str, seconds: float = ANSWER_SECONDS) -> T:
    """Call Ray with a time limit.

    Args:
        call: the call.
        what: what Ray is asked, to complete "asked ..." in the error.
        seconds: limit.

    Raises:
        EngineError: the call did not return in time, or Ray's head has died.
        Exception: what the call raised.
    """
    made = _Call(call)
    for _ in range(round(seconds)):
        if made.ended.wait(1.0):
            break
        if ended_here():
            raise _gone("Ray on this machine has ended")
    else:
        raise _silent(what)
    if made.error is not None:
        raise made.error
    return made.value  # type: ignore[return-value] # it ended without an error


def _silent(what: str) -> EngineError:
    return _gone(f"Ray's head does not answer (asked {what})")


def _gone(why: str) -> EngineError:
    do_not_wait_for_ray()
    return EngineError(f"{why}; run the same command again to resume")


class _Call(Generic[T]):
    """A call that runs in its own thread, which is abandoned if it does not return."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.ended = threading.Event()
        self.value: T | None = None
        self.error: BaseException | None = None
        self._call = call
        threading.Thread(target=self._run, name="Ray call", daemon=True).start()

    def _run(self) -> None:
        try:
            self.value = self._call()
        except BaseException as error:
            self.error = error
        self.ended.set()
