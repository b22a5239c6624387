"""A run to be interrupted: python slow_run.py INPUT OUTPUT SECONDS."""

from __future__ import annotations

import functools
import sys

from mean_colour import MeanColour

from cluster import driver
from cluster.runfolder import plan
from cluster.store import open_store
from cluster.worker import Task

if __name__ == "__main__":
    source, output, seconds = sys.argv[1:]
    run = plan(source, open_store(output), {})
    factory = functools.partial(MeanColour, capacity=2, steps=3, seconds=float(seconds))
    task = Task(run.store.url, run.manifest.source, factory, {})
    try:
        driver.run(task, [(e, run.manifest.path(e)) for e in run.manifest.images()])
    except driver.Interrupted:
        sys.exit(130)
