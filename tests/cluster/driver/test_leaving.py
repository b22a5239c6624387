"""A machine that its cloud is about to take away: its worker saves what it has and leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from cluster.run.folder import open_run
from tests.support.mean_colour import paint
from tests.support.metadata_service import NOWHERE, Cloud
from tests.support.places import SUPPORT, python_path
from tests.support.ray_clusters import Machines
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.long

IMAGES = 12


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    server = Cloud()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cluster(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    """Two machines, of which one is the cloud's."""
    monkeypatch.setenv("PYTHONPATH", python_path())
    monkeypatch.setenv("GCE_METADATA_HOST", NOWHERE.removeprefix("http://"))
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for metadata in (cloud.url, NOWHERE):
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)
            machines.add_node(num_cpus=1)
        yield machines
    finally:
        machines.shutdown()


def test_the_worker_of_a_machine_that_is_taken_away_leaves(
    cluster: Machines, cloud: Cloud, tmp_path: Path
) -> None:
    for i in range(IMAGES):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    (tmp_path / "at-work").mkdir()
    job = subprocess.Popen(
        [
            sys.executable,
            str(SUPPORT / "leaving_run.py"),
            *(str(tmp_path / name) for name in ("in", "run", "at-work")),
        ],
        env={**os.environ, "RAY_ADDRESS": cluster.address},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: len(list((tmp_path / "run").glob("records/*/*.json"))) >= 2, job)
        cloud.terminates()
        _, shown = job.communicate(timeout=PATIENCE)
    finally:
        job.kill()
    assert job.returncode == 0, shown
    assert "a worker leaves: EC2" in shown and "a worker died" not in shown
    rows = list(open_run(str(tmp_path / "run")).ledger.rows())
    assert [row["status"] for row in rows] == ["judged"] * IMAGES
    assert {row["attempts"] for row in rows} == {1}
    assert not list((tmp_path / "run").glob("progress/*.snapshot"))
