"""The workers of a run: which machines they are hired on, what they cost, and when they are released."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import ray

from cluster.driver.resources import ACCELERATOR, NoPrice, room
from cluster.driver.worker_handle import WorkerHandle
from cluster.ray_runtime import autoscaler, ray_health
from cluster.ray_runtime.observer_clock import ObserverClock
from cluster.ray_runtime.runtime import EngineError, available_cpus, worker_environment
from cluster.settings import ClusterSettings
from cluster.worker.messages import Task
from cluster.worker.worker import Worker

_NODE = "ray.io/node-id"
NO_MACHINE_SECONDS = 300.0
"""How long workers wait for a machine before machines that failed are tried again."""
_MAX_FAILURES = 3
"""Failures of a machine after which it is avoided, even though workers on it have judged images."""
PATIENCE_SECONDS = 60.0
"""After which the progress line says what workers wait for."""
_LOOK_SECONDS = 10.0
"""Between two requests to Ray's autoscaler."""


class WorkerPool:
    """Hires and releases workers. A worker's cost is counted from its first answer on."""

    def __init__(
        self,
        task: Task,
        settings: ClusterSettings,
        gpus: float,
        on_cluster: bool,
        clock: ObserverClock | None = None,
    ) -> None:
        self.task = task
        self.on_cluster = on_cluster
        """As of :func:`cluster.ray_runtime.ray_address.on_cluster`."""
        self.clock = clock or ObserverClock()
        self.settings = settings
        self.handles: dict[str, WorkerHandle] = {}
        self.gpus = gpus
        places = room(settings, gpus, task.memory)
        self.max_workers = settings.max_workers or max(places, settings.min_workers)
        self._may_grow = self.max_workers > places and on_cluster
        self.initial_workers = min(max(places, settings.min_workers), self.max_workers)
        """Workers that are hired at the start."""
        # The number of threads changes the last bits of sums. It must depend on the machine alone, and not on
        # how many workers there are: a resume with another number of workers gives the same verdicts.
        self._threads = max(1, available_cpus() // max(1, places))
        self._hired = 0
        self._spent = 0.0
        self._worked = 0.0
        self.max_at_once = 0
        self._leaving_machines: set[str] = set()
        """Ray's ids of machines that are about to be taken away, or have no price. Never used again."""
        self._failed: set[str] = set()
        """Ray's ids of machines that failed before they did anything, or several times. Used again if no
        other machine comes (:meth:`is_stuck`)."""
        self._failure_counts: Counter[str] = Counter()
        self._lost: dict[str, set[str]] = {}
        """By machine address: the ids under which Ray lost it. A machine that joins again gets another id."""
        self._unpriced: set[str] = set()
        """Kinds of GPU without a price, where there is a limit on cost."""
        self._looks_at = 0.0
        self._objection = ""
        self._ray_answers = True

    def __iter__(self) -> Iterator[WorkerHandle]:
        return iter(list(self.handles.values()))

    def __len__(self) -> int:
        return len(self.handles)

    @property
    def ready(self) -> list[WorkerHandle]:
        """Workers whose scorer is built."""
        return [m for m in self if m.capacity]

    def hire(self) -> WorkerHandle:
        """Start one more worker, on a machine that Ray chooses by :meth:`label_selector`.

        Raises:
            EngineError: Ray's head does not answer.
        """
        self._hired += 1
        actor = ray.remote(Worker).options(
            num_cpus=self.settings.cpus_per_worker,
            num_gpus=self.gpus,
            label_selector=self.label_selector() or None,
            runtime_env={"env_vars": worker_environment(self._threads)},
        )
        name = f"worker-{self._hired}"
        made = ray_health.bounded(lambda: actor.remote(self.task), "to start a worker")
        handle = WorkerHandle(name, made, hired_at=self.clock.now())
        self.handles[name] = handle
        self.max_at_once = max(self.max_at_once, len(self))
        return handle

    def label_selector(self) -> dict[str, str]:
        """Ray's label selector for the machines that a worker may be placed on."""
        wanted = dict(self.settings.labels)
        if self.gpus and self.settings.accelerators:
            wanted[ACCELERATOR] = f"in({','.join(self.settings.accelerators)})"
        elif self._unpriced and ACCELERATOR not in wanted:
            wanted[ACCELERATOR] = f"!in({','.join(sorted(self._unpriced))})"
        if avoided := self._leaving_machines | self._failed:
            wanted[_NODE] = f"!in({','.join(sorted(avoided))})"
        return wanted

    def waiting_for(self) -> str:
        """Text of the progress line while no worker is ready."""
        pending = [m for m in self if not m.answered and m.called_at and m.placed_at is None]
        if not pending or self.clock.now() - min(m.called_at for m in pending) < PATIENCE_SECONDS:
            return "starting a worker"
        wanted = f"{self.settings.cpus_per_worker:g} CPUs"
        wanted += f" and {self.gpus:g} GPUs" if self.gpus else ""
        labels = "".join(f", {key} {value}" for key, value in self.label_selector().items())
        waiting = f"waiting for a machine for {len(pending)} workers ({wanted} each{labels})"
        if self.clock.now() >= self._looks_at:
            self._looks_at = self.clock.now() + _LOOK_SECONDS
            self._objection = autoscaler.objection(len(pending), self.on_cluster)
        return waiting + self._objection

    def place(self, handle: WorkerHandle, node: str) -> None:
        """Note on which machine a worker is, and from that its price.

        Raises:
            NoPrice: the price is unknown, and there is a limit on cost. No more are hired on such machines.
        """
        machine = next((n for n in ray_health.nodes() if n["NodeID"] == node), {})
        labels = machine.get("Labels") or {}
        kind = labels.get(ACCELERATOR, "GPU") if self.gpus else "CPU"
        if (problem := self.settings.unpriced([kind])) is not None:
            self._leaving_machines.add(node)
            self._unpriced.add(kind)
            raise NoPrice(problem)  # check_prices did not see this machine, as it joined later
        price = self.settings.price(kind, self.gpus)
        handle.node, handle.address = node, machine.get("NodeManagerAddress", "")
        handle.paid_from = time.monotonic()
        handle.price = price or 0.0

    def avoid_leaving_machine(self, node: str | None) -> None:
        """Stop hiring on a machine that is about to be taken away."""
        if node:
            self._leaving_machines.add(node)

    def avoid_failed_machine(self, node: str | None) -> None:
        """Stop hiring on a machine that failed, if there is, or may come, a different one."""
        if node and self.may_get_other_machine(node):
            self._failed.add(node)

    def may_get_other_machine(self, node: str | None) -> bool:
        """Whether a worker may be hired on a machine other than this, now or when the cluster grows."""
        return self._may_grow or self.has_other_machines(node)

    def has_other_machines(self, node: str | None) -> bool:
        """Whether there is a machine other than this now on which a worker may be hired."""
        avoided = {node, *self._leaving_machines, *self._failed}
        return any(n["Alive"] and n["NodeID"] not in avoided and self._fits(n) for n in ray_health.nodes())

    def note_machine_failure(self, node: str | None) -> None:
        """Count a failure of a machine on which images had been judged. After several it is avoided; one may
        be an accident, or an outage that meets every machine."""
        if node:
            self._failure_counts[node] += 1
            if self._failure_counts[node] >= _MAX_FAILURES:
                self.avoid_failed_machine(node)

    def note_lost_machine(self, handle: WorkerHandle) -> None:
        """Count that Ray lost a worker's machine. Not where another machine has the same address and is
        alive: then it is unknown which of them failed."""
        nodes = ray_health.nodes()
        if not any(n["Alive"] and n.get("NodeManagerAddress") == handle.address for n in nodes):
            self._lost.setdefault(handle.address, set()).add(handle.node or "")

    def is_repeatedly_lost(self, handle: WorkerHandle) -> bool:
        """Whether a worker's machine was lost several times, with nothing judged there in between."""
        return len(self._lost.get(handle.address, ())) >= _MAX_FAILURES

    def note_working(self, handle: WorkerHandle) -> None:
        """Note that a worker judged its first image, so that its machine works."""
        self._lost.pop(handle.address, None)

    def is_stuck(self) -> bool:
        """Whether failed machines are avoided, all workers wait for a machine, and none came for minutes."""
        called = [m.called_at for m in self if m.called_at]
        waits = bool(called) and not any(m.answered or m.placed_at is not None for m in self)
        return waits and bool(self._failed) and self.clock.now() - min(called) > NO_MACHINE_SECONDS

    def forget_failures(self) -> None:
        """Allow machines again that failed. Workers that wait for others are released, as their selector
        excludes these; they are hired again."""
        self._failed.clear()
        self._lost.clear()
        self._failure_counts.clear()
        for handle in self:
            self.release(handle)

    def _fits(self, node: Mapping[str, Any]) -> bool:
        """Whether a machine is large enough for a worker."""
        has = node["Resources"]
        return has.get("CPU", 0) >= self.settings.cpus_per_worker and has.get("GPU", 0) >= self.gpus

    def is_alive(self, node: str | None) -> bool:
        """Whether a machine is alive as far as Ray knows."""
        return not any(n["NodeID"] == node and not n["Alive"] for n in ray_health.nodes())

    def release(self, handle: WorkerHandle) -> None:
        """End a worker's process, if it still runs, and stop counting its cost."""
        self._spent += _hours(handle) * handle.price
        self._worked += _hours(handle)
        del self.handles[handle.name]
        if self._ray_answers:
            try:
                ray_health.bounded(lambda: ray.kill(handle.actor), "to end a worker")
            except EngineError:  # do not wait for the next one too: all workers end with their Ray
                self._ray_answers = False

    def close(self) -> None:
        """Release all workers."""
        for handle in self:
            self.release(handle)

    @property
    def cost(self) -> float:
        """US dollars so far, by the settings' prices."""
        return self._spent + sum(_hours(handle) * handle.price for handle in self)

    @property
    def hours(self) -> float:
        """Hours of all workers so far."""
        return self._worked + sum(map(_hours, self))


def _hours(handle: WorkerHandle) -> float:
    return (time.monotonic() - handle.paid_from) / 3600 if handle.node else 0.0
