"""What Prometheus is told of a run. Ray collects it from every process, and each node serves it at its
metrics port, names prefixed with ``ray_`` and those of counters ended with ``_total``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ray.util.metrics import Counter, Gauge, Histogram

STAGES = ("fetch", "decode", "admit", "step", "commit")
"""The way of an image through a worker, and ``step``, which all images in flight share."""

_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]
"""Upper ends of the histogram: a small file is decoded in 5 ms, an evaluation may take minutes."""


class Metrics:
    """What Prometheus is told. One per process; harmless where no Ray runs.

    What is told before ``ray.init`` is lost. A call takes some 5 µs, so nothing is batched, and any
    thread may make it.
    """

    def __init__(self) -> None:
        self._images = Counter("originality_images", "Images with a record, by its status.", ("status",))
        self._stages = Histogram("originality_stage_seconds", "Seconds a stage took.", _SECONDS, ("stage",))
        self._scored = Counter("originality_scored", "What scoring cost, by its own names.", ("what",))
        self._queued = Gauge("originality_queued", "Images that no worker holds yet.")
        self._workers = Gauge("originality_workers", "Workers that are hired, those still starting included.")
        self._deaths = Counter("originality_worker_deaths", "Workers that died.")
        self._duplicates = Counter(
            "originality_duplicates",
            "Records dropped, as another worker's was there first.",
        )
        self._gpu = Gauge("originality_gpu_memory_bytes", "GPU memory that torch holds.", ("kind",))

    def settled(self, status: str) -> None:
        """An image has its record. To be told by whose record counts, so that it is counted once."""
        self._images.inc(1, {"status": status})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage, one of ``STAGES``; also one that ends with an exception."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._stages.observe(time.perf_counter() - started, {"stage": name})

    def counted(self, counters: Mapping[str, float]) -> None:
        """Adds the scorer's own amounts, such as ``unet_samples``; what is not above 0 adds nothing."""
        for what, amount in counters.items():
            if 0 < amount < float("inf"):
                self._scored.inc(float(amount), {"what": what})

    def queue(self, queued: int, workers: int) -> None:
        """How many images wait, and for how many workers."""
        self._queued.set(queued)
        self._workers.set(workers)

    def worker_died(self) -> None:
        self._deaths.inc()

    def duplicate(self) -> None:
        """A record was not written, as the image had one already."""
        self._duplicates.inc()

    def gpu_memory(self) -> None:
        """Samples torch's memory on the current GPU, in bytes: ``allocated`` to tensors, and ``reserved``
        from the driver. Does nothing where this process has not used CUDA; never imports torch."""
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return
        self._gpu.set(torch.cuda.memory_allocated(), {"kind": "allocated"})
        self._gpu.set(torch.cuda.memory_reserved(), {"kind": "reserved"})
