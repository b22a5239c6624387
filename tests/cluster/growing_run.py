"""A run on a cluster that grows: python growing_run.py INPUT OUTPUT MOST. Prints how many machines with a GPU
there were before, how many workers at once, what they cost, and how many machines are left when idle."""

from __future__ import annotations

import functools
import json
import sys
import time

import numpy as np
import ray
from mean_colour import MeanColour

from cluster import driver
from cluster.runfolder import plan
from cluster.settings import ClusterSettings
from cluster.store import open_store
from cluster.worker import Task


def machines() -> int:
    return sum(node["Alive"] and node["Resources"].get("GPU", 0) > 0 for node in ray.nodes())


if __name__ == "__main__":
    source, output, most = sys.argv[1:]
    ray.init()
    before = machines()
    run = plan(source, open_store(output), {})
    factory = functools.partial(MeanColour, capacity=1, steps=4, seconds=0.5)
    how = ClusterSettings(max_workers=int(most), prices={"CPU": 1.0, "FAKE": 3600.0})
    outcome = driver.run(
        Task(run.store.url, factory, {}), run.leases(np.arange(len(run.manifest))), how, gpu=True
    )
    assert outcome.counts == {"judged": len(run.manifest)}, outcome
    give_up = time.monotonic() + 60
    while machines() and time.monotonic() < give_up:
        time.sleep(0.5)
    print("came to:", json.dumps([before, outcome.workers, outcome.worker_hours, machines()]))
