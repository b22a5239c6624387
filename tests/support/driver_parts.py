"""A driver with machines and workers that a test sets."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.driver.dispatch import Dispatcher
from cluster.driver.progress import Progress
from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import WorkerPool
from cluster.ray_runtime.observer_clock import ObserverClock
from cluster.run.leases import Lease, Leases
from cluster.settings import ClusterSettings
from cluster.worker.messages import Task
from tests.support.mean_colour import MeanColour
from tests.support.set_time import SetTime

NODE, ACCELERATOR = "ray.io/node-id", "ray.io/accelerator-type"


def machine(node: str, cpus: float = 8.0, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": node, "Alive": alive, "Resources": {"CPU": cpus}}


def has(patch: pytest.MonkeyPatch, *machines: dict[str, Any]) -> None:
    """Makes Ray report these machines."""
    patch.setattr(ray, "nodes", lambda: list(machines))


class Driver(Dispatcher):
    """A driver of ten inputs, with workers that a test adds."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.time = SetTime()
        task = Task(str(folder / "run"), MeanColour, {})
        self.pool = WorkerPool(
            task, ClusterSettings(max_workers=workers), 0, on_cluster=False, clock=ObserverClock(self.time)
        )
        self.leases = Leases((Lease(i, f"u/{i}", 1) for i in range(10)), 10)
        progress = Progress(10, io.StringIO(), of="images", most_parts=1)
        nothing: Any = lambda *_: None  # noqa: E731
        super().__init__(self.leases, self.pool, progress, threading.Event(), nothing, nothing)

    def add(self, node: str, capacity: int = 2) -> WorkerHandle:
        actor: Any = None
        name = f"worker-{len(self.pool.handles)}-{self.deaths.total}"
        handle = WorkerHandle(name, actor, capacity, answered=True, node=node, address=f"10.0.0.{node}")
        self.pool.handles[name] = handle
        return handle

    def dies(self, node: str, error: Exception, capacity: int = 2) -> None:
        """Adds a worker on a machine, grants it inputs, and lets it end by an error."""
        handle = self.add(node, capacity)
        self.leases.grant(handle.name, 2)
        self.failures.ended(handle, error)
        assert self.leases.open == 10 and not self.leases.holds(handle.name)

    def causes(self) -> set[str]:
        """The causes for which any input is a suspect."""
        handle = self.add("x")
        found: set[str] = set()
        while granted := self.leases.grant(handle.name, 1):
            found |= {cause for lease in granted for cause in lease.causes}
            self.leases.settle(handle.name, granted[0].number, "")
        self.pool.release(handle)
        return found


@pytest.fixture(autouse=True)
def machines(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines of a cluster that does not grow; workers have no process to end."""
    monkeypatch.setattr(ray, "kill", lambda actor: None)
    has(monkeypatch, machine("a"), machine("b"))
