"""A worker without Ray, which gets the orders that a driver would send."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.inputs.listing import scan
from cluster.run.leases import Lease
from cluster.worker.messages import Orders, Report, Task
from cluster.worker.worker import Worker
from tests.support.mean_colour import MeanColour
from tests.support.waiting import PATIENCE


def lease_all(folder: Path | str) -> dict[str, Lease]:
    manifest = scan(str(folder))
    return {
        manifest.path(n): Lease(n, manifest.uri(n), manifest.size(n), location=manifest.location(n))
        for n in range(len(manifest))
    }


def task(tmp_path: Path, factory: Callable[[], Any] = MeanColour, snapshot_every: float = 60) -> Task:
    run = str(tmp_path / "run")
    return Task(run, factory, {"model": "colour"}, snapshot_every=snapshot_every)


def work(worker: Worker, leases: list[Lease], until: Callable[[Report], bool]) -> list[Report]:
    """Polls a worker as a driver does that has it judge every image."""
    reports = [worker.poll(Orders(leases))]
    give_up = time.monotonic() + PATIENCE
    while not until(reports[-1]):
        assert time.monotonic() < give_up, reports[-1]
        time.sleep(0.01)
        reports.append(worker.poll(Orders(go=[number for number, _ in reports[-1].identified])))
    return reports
