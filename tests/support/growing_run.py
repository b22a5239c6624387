"""Runs on a cluster that grows: python growing_run.py INPUT OUTPUT MOST.

Prints how many machines with a GPU there were before, how many workers at once, their hours and cost, and
how many machines are left when idle; then why a run without named GPUs is refused under a bound on the cost,
and what one says that wants a GPU which no kind of machine has.
"""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import sys
from typing import Any

import numpy as np
import ray

from cluster.driver import driver, worker_pool
from cluster.run.folder import plan
from cluster.settings import ClusterSettings
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from tests.support.mean_colour import MeanColour
from tests.support.waiting import until


def machines() -> int:
    return sum(node["Alive"] and node["Resources"].get("GPU", 0) > 0 for node in ray.nodes())


class Interrupting(io.StringIO):
    """Interrupts the run once it says that there is no node type."""

    line = ""

    def write(self, text: str) -> int:
        if "no node type" in text and not self.line:
            self.line = text
            os.kill(os.getpid(), signal.SIGINT)
        return super().write(text)


def judge(output: str, **more: Any) -> driver.Outcome:
    stream = more.pop("stream", None)
    run = plan(source, open_store(output), {})
    factory = functools.partial(MeanColour, capacity=1, steps=4, seconds=0.5)
    leases = run.leases(np.arange(len(run.manifest)))
    how = ClusterSettings(max_workers=int(most), **more)
    outcome = driver.run(Task(run.store.url, factory, {}), leases, how, gpu=True, stream=stream)
    assert outcome.counts == {"judged": len(run.manifest)}, outcome
    return outcome


if __name__ == "__main__":
    source, output, most = sys.argv[1:]
    ray.init()
    before = machines()
    outcome = judge(output, accelerators=("L4", "A10G"), max_cost=1000.0)
    until(lambda: not machines(), every=0.5)
    row = [before, outcome.workers, outcome.worker_hours, outcome.cost, machines()]
    print("came to:", json.dumps(row))
    try:
        judge(f"{output}-refused", max_cost=1000.0)
    except driver.EngineError as error:
        print("refused:", error)
    worker_pool.PATIENCE_SECONDS = 2.0
    stream = Interrupting()
    try:
        judge(f"{output}-waiting", accelerators=("H100",), deadline="1h", stream=stream)
    except driver.Interrupted:
        print("waited:", " ".join((stream.line or stream.getvalue()[-2000:]).split()))
