"""What Ray's machines offer to workers, checked before any is hired."""

from __future__ import annotations

import re

from cluster.ray_runtime import ray_health
from cluster.ray_runtime.runtime import Refused
from cluster.settings import ClusterSettings

ACCELERATOR = "ray.io/accelerator-type"
"""Ray's node label for the type of a machine's GPUs."""


class NoGpu(Refused):
    """The settings need a GPU, and none is available."""


class NoPrice(Refused):
    """There is a limit on cost, and a worker that may be hired has no price."""


def gpus_of(wanted: bool | None, each: float, on_cluster: bool) -> float:
    """Return the number of GPUs of one worker, which may be a fraction; 0 for workers on CPU.

    Args:
        wanted: whether workers use a GPU; None: if there is one.
        each: GPUs of one worker that uses any.
        on_cluster: whether machines with a GPU may still come, so that their absence says nothing.

    Raises:
        NoGpu: one is wanted and there is none, or ``wanted`` is None and a cluster has none yet.
    """
    there = ray_health.resources().get("GPU", 0) >= min(1.0, each)
    if wanted and not there and not on_cluster:
        raise NoGpu("no GPU on this machine; choose the device cpu")
    if wanted is None and not there and on_cluster:
        raise NoGpu("the cluster has no GPU now; --device cuda waits for one, --device cpu works without")
    return each if (there if wanted is None else wanted) else 0.0


def check_machine(settings: ClusterSettings, gpus: float) -> None:
    """Check that a worker fits into the Ray that was started on this machine, which will get no more.

    Raises:
        Refused: a worker needs more than the machine has, and would block the run for ever.
    """
    there = ray_health.resources()
    for kind, wanted in (("CPU", settings.cpus_per_worker), ("GPU", gpus)):
        if wanted > there.get(kind, 0):
            raise Refused(f"a worker needs {wanted:g} {kind}s and this machine has {there.get(kind, 0):g}")


def check_prices(settings: ClusterSettings, gpus: float, on_cluster: bool) -> None:
    """Check before any worker is hired that a limit on cost can be kept.

    Raises:
        NoPrice: a worker that may be hired has no price, or it is unknown which kinds may be hired.
    """
    if settings.max_cost is None:
        return
    if not gpus:
        kinds = {"CPU"}
    elif settings.accelerators:
        kinds = set(settings.accelerators)
    elif (only := settings.labels.get(ACCELERATOR)) is not None:
        kinds = _listed(only)
    else:
        nodes = [node for node in ray_health.nodes() if node["Alive"] and node["Resources"].get("GPU")]
        there = sum(node["Resources"]["GPU"] for node in nodes)
        if on_cluster and there < gpus * (settings.max_workers or 1):
            raise NoPrice(
                "--max-cost needs the price of every GPU that may be hired, and a cluster may start others "
                "than it has now: name them, e.g. --accelerators L4,A10G"
            )
        kinds = {(node.get("Labels") or {}).get(ACCELERATOR, "GPU") for node in nodes}
    if (problem := settings.unpriced(kinds)) is not None:
        raise NoPrice(problem)


def _listed(selector: str) -> set[str]:
    """Return the values that a label selector accepts: one, or those of ``in(...)``.

    Raises:
        NoPrice: it only says which values it excludes.
    """
    if selector.startswith("!"):
        raise NoPrice(
            "--max-cost needs the price of every GPU that may be hired, and the label selector "
            f"{ACCELERATOR}={selector} only excludes some: name those wanted, e.g. --accelerators L4,A10G"
        )
    several = re.fullmatch(r"in\((.*)\)", selector)
    return {value.strip() for value in (several[1] if several else selector).split(",")}


def room(settings: ClusterSettings, gpus: float, memory: int) -> int:
    """Return how many workers there is room for now, each with its GPU, or its CPUs and ``memory`` bytes."""
    there = ray_health.resources()
    if gpus:
        return max(1, int(there.get("GPU", 0) / gpus))
    cpus = there.get("CPU", 0) / max(settings.cpus_per_worker, 1e-9)
    return max(1, int(min(cpus, there.get("memory", 0) // memory)))
