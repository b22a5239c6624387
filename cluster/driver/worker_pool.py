"""The workers of a run: hired, placed, paid and let go."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import ray

from cluster.driver.worker_handle import WorkerHandle
from cluster.ray_runtime import autoscaler, ray_health
from cluster.ray_runtime.observer_clock import ObserverClock
from cluster.ray_runtime.runtime import EngineError, Refused, available_cpus, worker_environment
from cluster.settings import ClusterSettings
from cluster.worker.worker import Task, Worker

_ACCELERATOR = "ray.io/accelerator-type"
_NODE = "ray.io/node-id"
_NO_MACHINE_SECONDS = 300.0
"""How long no worker may get a machine before those are tried again that failed."""
_MAX_FAILURES = 3
"""Failures of a machine after which it is avoided, though workers on it have judged images."""
_PATIENCE_SECONDS = 60.0
"""After which it is said what is waited for."""
_LOOK_SECONDS = 10.0
"""Between two questions to Ray's autoscaler."""


class NoGpu(Refused):
    """A GPU was asked for and there is none."""


class NoPrice(Refused):
    """The cost is bounded, and a worker that may be hired has no price."""


class WorkerPool:
    """Hires and lets go. What a worker costs is counted from its first answer on."""

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
        self.most = settings.max_workers or max(places, settings.min_workers)
        self._may_grow = self.most > places and on_cluster
        self.first = min(max(places, settings.min_workers), self.most)
        """Workers that are hired at once."""
        # Threads change a sum's last bits, so they follow from the machine, not from how many work.
        self._threads = max(1, available_cpus() // max(1, places))
        self._hired = 0
        self._spent = 0.0
        self._worked = 0.0
        self.max_at_once = 0
        self._leaving_machines: set[str] = set()
        """Machines that are about to be taken away."""
        self._failed: set[str] = set()
        """Machines that failed before they did anything, or several times."""
        self._failure_counts: Counter[str] = Counter()
        self._lost: dict[str, set[str]] = {}
        """By address: ids under which Ray lost a machine."""
        self._unpriced: set[str] = set()
        """Kinds of GPU without a price where the cost is bounded."""
        self._looks_at = 0.0
        self._objection = ""
        self._ray_answers = True

    def __iter__(self) -> Iterator[WorkerHandle]:
        return iter(list(self.handles.values()))

    def __len__(self) -> int:
        return len(self.handles)

    @property
    def ready(self) -> list[WorkerHandle]:
        return [m for m in self if m.capacity]

    def hire(self) -> WorkerHandle:
        self._hired += 1
        actor = ray.remote(Worker).options(
            num_cpus=self.settings.cpus_per_worker,
            num_gpus=self.gpus,
            label_selector=self.wanted() or None,
            runtime_env={"env_vars": worker_environment(self._threads)},
        )
        name = f"worker-{self._hired}"
        made = ray_health.bounded(lambda: actor.remote(self.task), "to start a worker")
        handle = WorkerHandle(name, made, hired_at=self.clock.now())
        self.handles[name] = handle
        self.max_at_once = max(self.max_at_once, len(self))
        return handle

    def wanted(self) -> dict[str, str]:
        """Labels of the machines that will do."""
        wanted = dict(self.settings.labels)
        if self.gpus and self.settings.accelerators:
            wanted[_ACCELERATOR] = f"in({','.join(self.settings.accelerators)})"
        elif self._unpriced and _ACCELERATOR not in wanted:
            wanted[_ACCELERATOR] = f"!in({','.join(sorted(self._unpriced))})"
        if avoided := self._leaving_machines | self._failed:
            wanted[_NODE] = f"!in({','.join(sorted(avoided))})"
        return wanted

    def waiting_for(self) -> str:
        """What there is to say while no worker is ready."""
        pending = [m for m in self if not m.answered and m.asked_at and m.placed_at is None]
        if not pending or self.clock.now() - min(m.asked_at for m in pending) < _PATIENCE_SECONDS:
            return "starting a worker"
        wanted = f"{self.settings.cpus_per_worker:g} CPUs"
        wanted += f" and {self.gpus:g} GPUs" if self.gpus else ""
        labels = "".join(f", {key} {value}" for key, value in self.wanted().items())
        waiting = f"waiting for a machine for {len(pending)} workers ({wanted} each{labels})"
        if self.clock.now() >= self._looks_at:
            self._looks_at = self.clock.now() + _LOOK_SECONDS
            self._objection = autoscaler.objection(len(pending), self.on_cluster)
        return waiting + self._objection

    def place(self, handle: WorkerHandle, node: str) -> None:
        """Notes on which machine a worker is, and so what it costs.

        Raises:
            NoPrice: its price is not known, and there is a bound on the cost; no more are hired on such.
        """
        machine = next((n for n in ray_health.nodes() if n["NodeID"] == node), {})
        labels = machine.get("Labels") or {}
        kind = labels.get(_ACCELERATOR, "GPU") if self.gpus else "CPU"
        if (problem := self.settings.unpriced([kind])) is not None:
            self._leaving_machines.add(node)
            self._unpriced.add(kind)
            raise NoPrice(problem)  # of a machine that came since the run began
        price = self.settings.price(kind, self.gpus)
        handle.node, handle.address = node, machine.get("NodeManagerAddress", "")
        handle.paid_from = time.monotonic()
        handle.price = price or 0.0

    def avoid(self, node: str | None) -> None:
        """Hires no more on a machine that is about to be taken away."""
        if node:
            self._leaving_machines.add(node)

    def avoid_failed_machine(self, node: str | None) -> None:
        """Hires no more on a machine that failed, if there is or may come another one."""
        if node and self.may_get_other_machine(node):
            self._failed.add(node)

    def may_get_other_machine(self, node: str | None) -> bool:
        """Whether a worker may be hired on another machine than this one, now or when the cluster grows."""
        return self._may_grow or self.has_other_machines(node)

    def has_other_machines(self, node: str | None) -> bool:
        """Whether there are machines now, beside one, on which a worker may be hired."""
        avoided = {node, *self._leaving_machines, *self._failed}
        return any(n["Alive"] and n["NodeID"] not in avoided and self._fits(n) for n in ray_health.nodes())

    def note_machine_failure(self, node: str | None) -> None:
        """A machine failed on which images had been judged: one that does so again and again is avoided."""
        if node:
            self._failure_counts[node] += 1
            if self._failure_counts[node] >= _MAX_FAILURES:
                self.avoid_failed_machine(node)

    def lost(self, handle: WorkerHandle) -> None:
        """Ray lost a worker's machine. Of several at one address it is not known which one comes back."""
        nodes = ray_health.nodes()
        if not any(n["Alive"] and n.get("NodeManagerAddress") == handle.address for n in nodes):
            self._lost.setdefault(handle.address, set()).add(handle.node or "")

    def is_repeatedly_lost(self, handle: WorkerHandle) -> bool:
        """Whether a worker's machine was lost several times, and nothing was judged there in between."""
        return len(self._lost.get(handle.address, ())) >= _MAX_FAILURES

    def works(self, handle: WorkerHandle) -> None:
        """A worker judged its first image."""
        self._lost.pop(handle.address, None)

    def is_stuck(self) -> bool:
        """Whether machines that failed are avoided, and no other one came for minutes."""
        asked = [m.asked_at for m in self if m.asked_at]
        waits = bool(asked) and not any(m.answered or m.placed_at is not None for m in self)
        return waits and bool(self._failed) and self.clock.now() - min(asked) > _NO_MACHINE_SECONDS

    def forget_failures(self) -> None:
        """Tries machines again that failed: those that wait for others are let go of, to be hired anew."""
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
        """Whether Ray has not noticed that a machine is gone."""
        return not any(n["NodeID"] == node and not n["Alive"] for n in ray_health.nodes())

    def release(self, handle: WorkerHandle) -> None:
        self._spent += _hours(handle) * handle.price
        self._worked += _hours(handle)
        del self.handles[handle.name]
        if self._ray_answers:
            try:
                ray_health.bounded(lambda: ray.kill(handle.actor), "to end a worker")
            except EngineError:  # once is enough to wait for: all workers end with their Ray
                self._ray_answers = False

    def close(self) -> None:
        """Lets go of all."""
        for handle in self:
            self.release(handle)

    @property
    def cost(self) -> float:
        """US dollars so far."""
        return self._spent + sum(_hours(handle) * handle.price for handle in self)

    @property
    def hours(self) -> float:
        """Of all workers so far."""
        return self._worked + sum(map(_hours, self))


def _hours(handle: WorkerHandle) -> float:
    return (time.monotonic() - handle.paid_from) / 3600 if handle.node else 0.0


def gpus_of(wanted: bool | None, each: float, on_cluster: bool) -> float:
    """GPUs of a worker. On a cluster that grows there may be none yet, so only a machine of one's
    own is known to have none.

    Raises:
        NoGpu: one is wanted and there is none, or it was left open and cannot be known.
    """
    there = ray_health.resources().get("GPU", 0) >= min(1.0, each)
    if wanted and not there and not on_cluster:
        raise NoGpu("no GPU on this machine; choose the device cpu")
    if wanted is None and not there and on_cluster:
        raise NoGpu("the cluster has no GPU now; --device cuda waits for one, --device cpu works without")
    return each if (there if wanted is None else wanted) else 0.0


def check_machine(settings: ClusterSettings, gpus: float) -> None:
    """Checks that a worker fits into the Ray that was started on this machine, which will get no more.

    Raises:
        Refused: a worker wants more than there is, and would be waited for without end.
    """
    there = ray_health.resources()
    for kind, wanted in (("CPU", settings.cpus_per_worker), ("GPU", gpus)):
        if wanted > there.get(kind, 0):
            raise Refused(f"a worker wants {wanted:g} {kind}s and this machine has {there.get(kind, 0):g}")


def check_prices(settings: ClusterSettings, gpus: float, on_cluster: bool) -> None:
    """Checks before anybody is hired that a bound on the cost can be kept.

    Raises:
        NoPrice: a worker that may be hired has no price, or which ones may be hired cannot be known.
    """
    if settings.max_cost is None:
        return
    if not gpus:
        kinds = {"CPU"}
    elif settings.accelerators:
        kinds = set(settings.accelerators)
    elif (only := settings.labels.get(_ACCELERATOR)) is not None:
        kinds = _listed(only)
    else:
        nodes = [node for node in ray_health.nodes() if node["Alive"] and node["Resources"].get("GPU")]
        there = sum(node["Resources"]["GPU"] for node in nodes)
        if on_cluster and there < gpus * (settings.max_workers or 1):
            raise NoPrice(
                "--max-cost needs the price of every GPU that may be hired, and a cluster may bring others "
                "than it has now: name them, e.g. --accelerators L4,A10G"
            )
        kinds = {(node.get("Labels") or {}).get(_ACCELERATOR, "GPU") for node in nodes}
    if (problem := settings.unpriced(kinds)) is not None:
        raise NoPrice(problem)


def _listed(selector: str) -> set[str]:
    """The values that a label selector lets pass: one, or those of in(...).

    Raises:
        NoPrice: it only says which ones do not pass.
    """
    if selector.startswith("!"):
        raise NoPrice(
            "--max-cost needs the price of every GPU that may be hired, and the label selector "
            f"{_ACCELERATOR}={selector} only excludes some: name those wanted, e.g. --accelerators L4,A10G"
        )
    several = re.fullmatch(r"in\((.*)\)", selector)
    return {value.strip() for value in (several[1] if several else selector).split(",")}


def room(settings: ClusterSettings, gpus: float, memory: int) -> int:
    """Workers that there is room for now, each with its GPU, or its CPUs and memory."""
    there = ray_health.resources()
    if gpus:
        return max(1, int(there.get("GPU", 0) / gpus))
    cpus = there.get("CPU", 0) / max(settings.cpus_per_worker, 1e-9)
    return max(1, int(min(cpus, there.get("memory", 0) // memory)))
