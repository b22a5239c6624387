"""A run to be interrupted: python slow_run.py INPUT OUTPUT SECONDS."""

from __future__ import annotations

import functools
import sys

import numpy as np

from cluster.driver import driver
from cluster.run.folder import plan
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from tests.support.mean_colour import MeanColour

if __name__ == "__main__":
    source, output, seconds = sys.argv[1:]
    run = plan(source, open_store(output), {})
    factory = functools.partial(MeanColour, capacity=2, steps=3, seconds=float(seconds))
    task = Task(run.store.url, factory, {})
    try:
        driver.run(task, run.leases(np.arange(len(run.manifest))), gpu=False, learn=run.identities.learn)
    except driver.Interrupted:
        sys.exit(130)
    finally:
        run.identities.save()
