"""A run that records where each image was judged: python placed_run.py INPUT OUTPUT SETTINGS.json-text
FOLDER.

Beside the settings the JSON may contain "refuses", a kind of machine on which no scorer can be built, and
"joined": the machines count as having joined after the prices were checked.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray

from cluster.driver import driver
from cluster.run.folder import plan
from cluster.settings import ClusterSettings
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from jobs.auditing.worker_gpu import check_gpu
from originality.contract.faults import MachineFault
from originality.contract.scorer import Finished, Unusable
from tests.support.driver_messages import TouchOnText
from tests.support.mean_colour import MeanColour
from tests.support.waiting import until

DIED = "a worker died"


class Placed(MeanColour):
    """Records on which kind of machine an image was judged, and what torch sees of its GPU. Starts when all
    workers have an image, or one of them has died."""

    def __init__(self, folder: Path, workers: int, refuses: str | None) -> None:
        super().__init__(capacity=1)
        self._folder, self._workers = folder, workers
        self._gpu = "seen"
        try:
            check_gpu()
        except MachineFault as fault:  # the GPUs of this cluster are not real
            self._gpu = str(fault)
        node = ray.get_runtime_context().get_node_id()
        labels: dict[str, Any] = next(n["Labels"] for n in ray.nodes() if n["NodeID"] == node)
        self._where = labels["ray.io/accelerator-type"]
        if self._where == refuses:
            raise Unusable(f"no flash attention on {refuses}")

    def step(self) -> list[Finished]:
        (self._folder / str(os.getpid())).touch()
        until(lambda: len(list(self._folder.iterdir())) >= self._workers)
        done = super().step()
        for one in done:
            one.record.update(where=self._where, gpu=self._gpu)
        return done


if __name__ == "__main__":
    source, output, how, folder = sys.argv[1:]
    run = plan(source, open_store(output), {})
    given = {"prices": {"L4": 1.0, "T4": 2.0, "A10G": 4.0}, **json.loads(how)}
    refuses = given.pop("refuses", None)
    joined = given.pop("joined", False)
    if joined:
        driver.check_prices = lambda settings, gpus, on_cluster: None
    settings = ClusterSettings(**given)
    leases = run.leases(np.arange(len(run.manifest)))
    assert settings.max_workers is not None
    factory = functools.partial(Placed, Path(folder), settings.max_workers, refuses)
    stream = TouchOnText(DIED, Path(folder) / DIED)
    outcome = driver.run(Task(run.store.url, factory, {}), leases, settings, gpu=True, stream=stream)
    where = sorted({row["where"] for row in run.ledger.rows()})
    print("torch:", next(run.ledger.rows())["gpu"])
    print("came to:", json.dumps([where, outcome.workers, outcome.cost / outcome.worker_hours]))
