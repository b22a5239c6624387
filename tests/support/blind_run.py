"""A run in which one machine cannot read the inputs: python blind_run.py INPUT OUTPUT FOLDER.

The inputs' paths are relative to the working folder of the process that reads them, which stands for a
mounted share. The machine with BLIND in its environment has a different folder there.
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
from cluster.worker.messages import Task
from originality.contract.scorer import Finished
from tests.support.driver_messages import TouchOnText
from tests.support.mean_colour import MeanColour
from tests.support.waiting import until

FOUND_BLIND = "could not be read on its"


class Mounted(MeanColour):
    """Judges nothing until the driver has found the machine that cannot read."""

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
    stream = TouchOnText(FOUND_BLIND, Path(folder) / "known")
    driver.run(
        task, leases, ClusterSettings(max_workers=2), gpu=False, learn=run.identities.learn, stream=stream
    )
    run.identities.save()
