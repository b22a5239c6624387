"""A worker pool without processes, for tests of the driver's decisions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.driver.worker_handle import WorkerHandle
from cluster.ray_runtime.observer_clock import ObserverClock
from tests.support.set_time import SetTime


class FakePool:
    """Stands for :class:`cluster.driver.worker_pool.WorkerPool`."""

    def __init__(self, *nodes: str) -> None:
        """Starts with one ready worker on each node."""
        self.time = SetTime()
        self.clock = ObserverClock(self.time)
        self.handles: dict[str, WorkerHandle] = {}
        self.machines = set(nodes)
        self.max_workers = len(nodes)
        for node in nodes:
            self.add(node)

    def add(self, node: str | None, capacity: int = 2) -> WorkerHandle:
        name = f"worker-{len(self.handles)}-on-{node}"
        actor: Any = None
        handle = WorkerHandle(name, actor, capacity, answered=node is not None, node=node)
        handle.hired_at = self.clock.now()
        self.handles[name] = handle
        return handle

    def wait(self, seconds: float) -> None:
        """Lets time pass for a driver that reads its clock every second."""
        for _ in range(int(seconds)):
            self.time.seconds += 1
            self.clock.now()

    def __iter__(self) -> Iterator[WorkerHandle]:
        return iter(list(self.handles.values()))

    def __len__(self) -> int:
        return len(self.handles)

    def __getitem__(self, node: str) -> WorkerHandle:
        return next(handle for handle in self if handle.node == node)

    @property
    def ready(self) -> list[WorkerHandle]:
        return [handle for handle in self if handle.capacity]

    def has_other_machines(self, node: str | None) -> bool:
        return bool(self.machines - {node})

    def release(self, handle: WorkerHandle) -> None:
        del self.handles[handle.name]
