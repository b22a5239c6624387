"""Prometheus metrics of a run.

Ray collects them from every process, and each node serves them at its metrics port. There, names begin with
``ray_``, and those of counters end with ``_total``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ray.util.metrics import Counter, Gauge, Histogram

STAGES = ("fetch", "decode", "admit", "step", "commit")
"""The stages of an image in a worker; ``step`` is shared by all images in flight."""

_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]
"""Upper bounds of the histogram's buckets: a small file is decoded in 5 ms, an evaluation may take
minutes."""


class Metrics:
    """The metrics of one process. Does nothing without Ray; values set before ``ray.init`` are lost.

    A call takes about 5 µs, so nothing is batched. Any thread may call.
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
        """Count an image by the status of its record. Called only by the process whose record counts, so
        that each image is counted once."""
        self._images.inc(1, {"status": status})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time of a stage, one of ``STAGES``, also if it ends with an exception."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._stages.observe(time.perf_counter() - started, {"stage": name})

    def counted(self, counters: Mapping[str, float]) -> None:
        """Add the scorer's counters, such as ``unet_samples``. Values that are not above 0 are ignored."""
        for what, amount in counters.items():
            if 0 < amount < float("inf"):
                self._scored.inc(float(amount), {"what": what})

    def queue(self, queued: int, workers: int) -> None:
        """Set how many images wait, and how many workers are hired."""
        self._queued.set(queued)
        self._workers.set(workers)

    def worker_died(self) -> None:
        """Count a worker that died."""
        self._deaths.inc()

    def duplicate(self) -> None:
        """Count a record that was dropped, as the image had one already."""
        self._duplicates.inc()

    def gpu_memory(self) -> None:
        """Set the bytes of GPU memory that torch has allocated to tensors, and reserved from the driver.

        Does nothing if this process has not used CUDA, and never imports torch, which the engine does not
        need.
        """
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return
        self._gpu.set(torch.cuda.memory_allocated(), {"kind": "allocated"})
        self._gpu.set(torch.cuda.memory_reserved(), {"kind": "reserved"})
