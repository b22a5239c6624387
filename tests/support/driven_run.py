"""A run of the engine on the Ray of this process."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cluster.driver import driver
from cluster.run.folder import RunFolder, plan
from cluster.settings import ClusterSettings
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from tests.support.mean_colour import MeanColour


def drive(
    folder: Path,
    output: Path,
    factory: Callable[[], Any] = MeanColour,
    gpu: bool | None = None,
    workers: int | None = None,
    stream: io.StringIO | None = None,
    **how: Any,
) -> tuple[RunFolder, Counter[str], str]:
    """Judges the inputs that have no record yet."""
    run = plan(str(folder), open_store(str(output)), {})
    leases = run.leases(np.arange(len(run.manifest)))
    task = Task(run.store.url, factory, {"model": "colour"})
    shown = stream or io.StringIO()
    settings = ClusterSettings(max_workers=workers, **how)
    try:
        done = driver.run(task, leases, settings, gpu=gpu, learn=run.identities.learn, stream=shown)
    finally:
        run.identities.save()
    return run, done.counts, shown.getvalue()
