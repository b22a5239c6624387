"""A run of which one machine does not see the inputs: python blind_run.py INPUT OUTPUT FOLDER.

The inputs' paths begin with the working folder of whoever reads them, as if that were a mounted share. On the
machine that has BLIND in its environment another folder is there.
"""

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
from cluster.worker.worker import Task
from originality.contract.scorer import Finished
from tests.support.driver_messages import Told
from tests.support.mean_colour import MeanColour
from tests.support.waiting import until

SAID = "could not be read on its machine, and could on another one"


class Mounted(MeanColour):
    """Judges nothing before the blind machine is known."""

    def __init__(self, folder: Path) -> None:
        super().__init__(capacity=2)
        self._known = folder / "known"
        os.chdir(folder / ("nothing" if os.environ.get("BLIND") else "share"))

    def step(self) -> list[Finished]:
        until(self._known.exists)
        return super().step()


if __name__ == "__main__":
    source, output, folder = sys.argv[1:]
    run = plan(source, open_store(output), {})
    task = Task(run.store.url, functools.partial(Mounted, Path(folder)), {})
    leases = run.leases(np.arange(len(run.manifest)))
    stream = Told(SAID, Path(folder) / "known")
    driver.run(
        task, leases, ClusterSettings(max_workers=2), gpu=False, learn=run.identities.learn, stream=stream
    )
    run.identities.save()
