"""What the driver does with workers that hang."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.driver import driver
from cluster.run.folder import plan
from cluster.settings import ClusterSettings
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from tests.support.mean_colour import MeanColour, paint
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.long

HANGS = (9, 0, 0)


class HangsAtTheDoor(MeanColour):
    """Hangs when it admits an image of one colour."""

    def admit(self, item: Any) -> None:
        if np.asarray(item.content)[0, 0].tolist() == list(HANGS):
            time.sleep(PATIENCE)
        super().admit(item)


def test_only_the_image_being_processed_is_blamed(tmp_path: Path, local_ray: None) -> None:
    """The images beside it in the scorer, and those that waited, are judged at their first attempt."""
    paint(tmp_path / "in", "hangs.png", HANGS)
    for i in range(1, 8):
        paint(tmp_path / "in", f"{i}.png", (0, i, 0))
    run = plan(str(tmp_path / "in"), open_store(str(tmp_path / "run")), {})
    task = Task(run.store.url, HangsAtTheDoor, {}, step_limit=5.0)
    leases, how, shown = run.leases(np.arange(8)), ClusterSettings(max_workers=1), io.StringIO()
    done = driver.run(task, leases, how, gpu=False, stream=shown)
    assert (done.counts, done.deaths) == ({"failed": 1, "judged": 7}, 3)
    rows = list(run.ledger.rows())
    assert {row["attempts"] for row in rows if row["status"] == "judged"} == {1}
    (failed,) = (row for row in rows if row["status"] == "failed")
    assert failed["error_class"] == "WorkerDied" and failed["attempts"] == 3
    assert "admitting" in failed["error_message"] and "5 s (cluster.step_limit)" in failed["error_message"]
