"""The driver of a run: starts Ray and workers, and leases images to them until all are settled."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TextIO

from cluster.driver.dispatch import Dispatcher
from cluster.driver.progress import Progress
from cluster.driver.resources import NoGpu, check_machine, check_prices, gpus_of
from cluster.driver.worker_pool import WorkerPool
from cluster.ray_runtime import ray_address
from cluster.ray_runtime.runtime import EngineError, ray_running, stop_signals
from cluster.run.interrupted import Interrupted
from cluster.run.leases import Leases
from cluster.settings import ClusterSettings
from cluster.storage.store import StoreError
from cluster.worker.messages import Task

__all__ = ["EngineError", "Interrupted", "NoGpu", "Outcome", "run"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one start of a run."""

    counts: Counter[str]
    """Inputs settled, by status."""
    duplicates: int
    """Records that were dropped, as the image had one already."""
    deaths: int
    """Workers that died."""
    cost: float
    """US dollars, by the settings' prices."""
    worker_hours: float
    workers: int
    """Most workers at once."""


def run(
    task: Task,
    leases: Leases,
    settings: ClusterSettings = ClusterSettings(),
    *,
    gpu: bool | None = None,
    learn: Callable[[int, str], None] = lambda number, image_id: None,
    beat: Callable[[dict[str, Any]], None] = lambda state: None,
    stream: TextIO | None = None,
) -> Outcome:
    """Judge every input that ``leases`` holds.

    Args:
        task: what every worker is started with.
        leases: the inputs to settle.
        settings: of workers and their machines, and when to stop.
        gpu: whether a worker uses a GPU; None: if there is one.
        learn: called with an input's number and image_id when it becomes known which image it is.
        beat: called in each round with the state of the run.
        stream: where progress is shown; None: stderr.

    Raises:
        Interrupted: Ctrl-C, SIGTERM, the deadline, or the limit on cost.
        EngineError: workers die before they are ready, the store is unavailable, there is no GPU, or every
            image fails.
        Unusable: no scorer can be built with the settings.
    """
    progress = Progress(leases.open, stream or sys.stderr, of=task.item_noun, most_parts=task.most_parts)
    progress.show("starting Ray")
    with closing(progress), ray_running(), stop_signals() as stopping:
        on_cluster = ray_address.on_cluster()
        gpus = gpus_of(gpu, settings.gpus_per_worker, on_cluster)
        if not on_cluster:
            check_machine(settings, gpus)
        check_prices(settings, gpus, on_cluster)
        with closing(WorkerPool(task, settings, gpus, on_cluster)) as pool:
            dispatcher = Dispatcher(leases, pool, progress, stopping, learn, beat)
            try:
                dispatcher.work()
            except StoreError as error:
                raise EngineError(str(error)) from error
    return Outcome(
        counts=progress.counts,
        duplicates=dispatcher.duplicates,
        deaths=dispatcher.deaths.total,
        cost=pool.cost,
        worker_hours=pool.hours,
        workers=pool.max_at_once,
    )
