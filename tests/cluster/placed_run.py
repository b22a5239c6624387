"""A run that tells where it was: python placed_run.py INPUT OUTPUT SETTINGS.json-text."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import ray
from mean_colour import MeanColour

from cluster import driver
from cluster.runfolder import plan
from cluster.settings import ClusterSettings
from cluster.store import open_store
from cluster.worker import Task
from originality.scoring import Finished


class Placed(MeanColour):
    """Says in each record on which kind of machine it was judged."""

    def __init__(self) -> None:
        super().__init__(capacity=1, steps=3, seconds=0.3)
        node = ray.get_runtime_context().get_node_id()
        labels: dict[str, Any] = next(n["Labels"] for n in ray.nodes() if n["NodeID"] == node)
        self._where = labels["ray.io/accelerator-type"]

    def step(self) -> list[Finished]:
        done = super().step()
        for one in done:
            one.record["where"] = self._where
        return done


if __name__ == "__main__":
    source, output, how = sys.argv[1:]
    run = plan(source, open_store(output), {})
    settings = ClusterSettings(prices={"L4": 1.0, "T4": 2.0, "A10G": 4.0}, **json.loads(how))
    leases = run.leases(np.arange(len(run.manifest)))
    outcome = driver.run(Task(run.store.url, Placed, {}), leases, settings, gpu=True)
    where = sorted({row["where"] for row in run.ledger.rows()})
    print("came to:", json.dumps([where, outcome.workers, outcome.cost / outcome.worker_hours]))
