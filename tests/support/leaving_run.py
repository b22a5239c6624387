"""A run in which one of two workers must leave: python leaving_run.py INPUT OUTPUT FOLDER."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import numpy as np

from cluster.driver import driver
from cluster.run.folder import plan
from cluster.settings import ClusterSettings
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from originality.contract.scorer import Finished
from tests.support.driver_messages import TouchOnText
from tests.support.mean_colour import MeanColour
from tests.support.waiting import until

LEAVES = "a worker leaves"


class Waiting(MeanColour):
    """Starts when both workers have an image, and judges only its first images before one of them leaves."""

    def __init__(self, folder: Path) -> None:
        super().__init__(capacity=2, steps=3)
        self._folder = folder
        self._judged = 0

    def step(self) -> list[Finished]:
        (self._folder / str(os.getpid())).touch()
        until(lambda: len(list(self._folder.iterdir())) >= 2)
        if self._judged:
            until((self._folder / LEAVES).exists)
        done = super().step()
        self._judged += len(done)
        return done


if __name__ == "__main__":
    source, output, folder = sys.argv[1:]
    run = plan(source, open_store(output), {})
    task = Task(run.store.url, functools.partial(Waiting, Path(folder)), {})
    leases = run.leases(np.arange(len(run.manifest)))
    stream = TouchOnText(LEAVES, Path(folder) / LEAVES)
    driver.run(
        task, leases, ClusterSettings(max_workers=2), gpu=False, learn=run.identities.learn, stream=stream
    )
    run.identities.save()
