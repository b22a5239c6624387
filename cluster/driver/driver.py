"""The driver of a run: Ray, workers and the loop that leases images to them, from start to end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TextIO

from cluster.driver.dispatch import Dispatcher
from cluster.driver.progress import Progress
from cluster.driver.worker_pool import NoGpu, WorkerPool, check_machine, check_prices, gpus_of
from cluster.ray_runtime import ray_address
from cluster.ray_runtime.runtime import EngineError, ray_running, stop_signals
from cluster.run.interrupted import Interrupted
from cluster.run.leases import Leases
from cluster.settings import ClusterSettings
from cluster.storage.store import StoreError
from cluster.worker.worker import Task

__all__ = ["EngineError", "Interrupted", "NoGpu", "Outcome", "run"]


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    counts: Counter[str]
    """Inputs settled, by status."""
    duplicates: int
    """Records that came too late and were dropped."""
    deaths: int
    cost: float
    """US dollars by the settings' prices."""
    worker_hours: float
    workers: int
    """Most at once."""


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
    """Has every input judged that is leased.

    ``gpu``: whether a worker holds one; None takes one where there is one. ``learn``: told which image an
    input is. ``beat``: told now and then how far the run is. ``stream``: where progress is shown; None is
    stderr.

    Raises:
        Interrupted: Ctrl-C, SIGTERM, the deadline, or the bound on cost.
        EngineError: workers die before they are ready, the store is out of reach, no GPU, or every image
            fails.
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
