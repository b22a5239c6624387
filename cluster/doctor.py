"""Checks of what a run needs beside the science: room for weights, a store that can lock, and Ray."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

from cluster.ray_runtime.ray_address import cluster_address
from cluster.ray_runtime.runtime import available_cpus, ray_running
from cluster.settings import ClusterSettings
from cluster.storage.store import PATIENCE, open_store, removing_empty_folders
from originality.contract.findings import Check, Finding, failed, ok, skipped, warning
from originality.contract.node_cache import cache_path

ROOM_FOR_WEIGHTS = 15e9
"""Bytes. Stable Diffusion 1.x takes 3.4 GB in fp32, SDXL 10.3 GB, a metric and a detector some more."""

SHARED_MEMORY = 256 * 2**20
"""Bytes. With less, Ray keeps its objects on the disk. Docker gives a container 64 MiB."""

_CACHE = "set ORIGINALITY_CACHE to a folder with room for weights"
_SHM = Path("/dev/shm")
STORE_SECONDS = 5.0
"""Patience with a store that does not answer, while it is checked (see :func:`impatient`)."""


def of_disk(to_bring: bool) -> list[Check]:
    """Checks to do before weights are fetched. ``to_bring``: whether some are in a bucket or on the hub."""
    return [Check("cache", lambda: cache(to_bring), fix=_CACHE)]


def of_run(out: str | None, how: ClusterSettings) -> list[Check]:
    """Checks of the store, shared memory and Ray."""
    keys = "look at the keys (AWS_PROFILE, or AWS_ACCESS_KEY_ID) and at AWS_ENDPOINT_URL"
    return [
        Check("store", lambda: store(out), fix=keys),
        Check("shared memory", shared_memory),
        Check("Ray", lambda: cluster(how), fix="start it, or unset RAY_ADDRESS to run on this machine"),
    ]


def cache(to_bring: bool) -> Finding:
    """Check that this machine has room for weights from a bucket or the hub."""
    place = cache_path()
    free = {str(place): shutil.disk_usage(_nearest(place)).free}
    text = f"{free[str(place)] / 1e9:.3g} GB free for {place}"
    if not to_bring:
        return ok(f"{text}; all weights are here", free_bytes=free)
    if not os.access(_nearest(place), os.W_OK):
        return failed(f"{text}; it cannot be written to", _CACHE, free_bytes=free)
    if free[str(place)] < ROOM_FOR_WEIGHTS:
        return warning(
            f"{text}; SDXL and DreamSim want {ROOM_FOR_WEIGHTS / 1e9:.0f} GB", _CACHE, free_bytes=free
        )
    return ok(text, free_bytes=free)


def _nearest(place: Path) -> Path:
    """The folder, or the closest one above it that exists."""
    return next(p for p in (place, *place.absolute().parents) if p.exists())


def store(out: str | None) -> Finding:
    """Check that the place for a run can create an object only once. Leaves nothing there."""
    if not out:
        return skipped("no --out given")
    with removing_empty_folders(out):
        opened = open_store(out)
        opened.check_create()
    return ok(f"{opened.url} writes an object only once", url=opened.url)


@contextmanager
def impatient() -> Iterator[None]:
    """While the context is open, stores that do not answer are given up after seconds, as a person waits."""
    if PATIENCE in os.environ:  # set by the user
        yield
        return
    os.environ[PATIENCE] = str(STORE_SECONDS)
    try:
        yield
    finally:
        del os.environ[PATIENCE]


def shared_memory() -> Finding:
    """Check that there is enough shared memory for Ray's objects."""
    if not _SHM.is_dir():
        return skipped(f"there is no {_SHM} here")
    free = shutil.disk_usage(_SHM).free
    text = f"{free / 2**30:.3g} GiB free in {_SHM}"
    if free < SHARED_MEMORY:
        fix = "docker run --shm-size=1g, or an emptyDir of medium Memory there"
        return warning(f"{text}: Ray will use the disk", fix, free_bytes=free)
    return ok(text, free_bytes=free)


def cluster(how: ClusterSettings) -> Finding:
    """Report what the Ray cluster that RAY_ADDRESS names has; without one, what would be started here."""
    address = cluster_address()
    if not address:
        cpus = available_cpus()
        return ok(f"no cluster is named; an audit starts Ray here, with {cpus} CPUs", address=None, cpus=cpus)
    with ray_running():
        there, nodes = ray.cluster_resources(), [n for n in ray.nodes() if n["Alive"]]
    kinds = Counter(kind for n in nodes if (kind := (n.get("Labels") or {}).get("ray.io/accelerator-type")))
    numbers: dict[str, Any] = {
        "address": address,
        "nodes": len(nodes),
        "cpus": there.get("CPU", 0.0),
        "gpus": there.get("GPU", 0.0),
        "accelerators": dict(kinds),
    }
    text = f"{len(nodes)} nodes at {address}, {numbers['cpus']:g} CPUs, {numbers['gpus']:g} GPUs"
    text += f" ({', '.join(f'{kind} on {n}' for kind, n in kinds.items())})" if kinds else ""
    labels = {(key, value) for n in nodes for key, value in (n.get("Labels") or {}).items()}
    lacking = [f"{key}={value}" for key, value in how.labels.items() if (key, value) not in labels]
    wanted = [kind for kind in how.accelerators if kind not in kinds]
    if lacking or (wanted and len(wanted) == len(how.accelerators)):
        what = ", ".join([*lacking, *wanted])
        return warning(f"{text}; now without {what}", "right if the autoscaler brings them", **numbers)
    return ok(text, **numbers)


def price(how: ClusterSettings, gpu: str) -> tuple[str, float | None]:
    """Return Ray's name of a GPU, given the NVIDIA driver's name, and US dollars per hour of a worker with
    one; None if the price is unknown."""
    kind = NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(gpu) or gpu
    return kind, how.price(kind, 1.0)
