"""Complete runs on machines that cannot read the inputs, and on a Ray that dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cluster.run.folder import open_run
from tests.support.blind_run import FOUND_BLIND
from tests.support.mean_colour import paint
from tests.support.places import SUPPORT, python_path
from tests.support.ray_clusters import Machines
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.long

IMAGES = 24


def start(script: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    path = python_path()
    return subprocess.Popen(
        [sys.executable, str(SUPPORT / script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_whose_ray_died_ends_and_the_next_start_resumes(tmp_path: Path) -> None:
    """First its raylet is killed, then, in the next start, its head."""
    for i in range(IMAGES):
        paint(tmp_path / "in", f"{i:02}.png", (i, i, i))

    def judged() -> int:
        return len(list((tmp_path / "run").glob("records/*/*.json")))

    for victim in ("raylet", "gcs_server"):
        before = judged()
        job = start("slow_run.py", tmp_path / "in", tmp_path / "run", 0.3)
        try:
            until(lambda: judged() > before, job)  # noqa: B023
            below = psutil.Process(job.pid).children(recursive=True)
            (process,) = [child for child in below if child.name() == victim]
            process.kill()
            _, shown = job.communicate(timeout=PATIENCE)
        finally:
            job.kill()
        assert job.returncode == 1, shown
        assert "EngineError: Ray " in shown and "to resume" in shown
    job = start("slow_run.py", tmp_path / "in", tmp_path / "run", 0.0)
    try:
        _, shown = job.communicate(timeout=PATIENCE)
    finally:
        job.kill()
    assert job.returncode == 0, shown
    rows = list(open_run(str(tmp_path / "run")).ledger.rows())
    assert [row["status"] for row in rows] == ["judged"] * IMAGES


def test_a_machine_that_does_not_see_the_inputs_rejects_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(IMAGES):
        paint(tmp_path / "share", f"{i:02}.png", (i, i, i))
    (tmp_path / "nothing").mkdir()
    uris = [f"/proc/self/cwd/{i:02}.png" for i in range(IMAGES)]
    (tmp_path / "list.csv").write_text("\n".join(["uri", *uris]))
    monkeypatch.setenv("PYTHONPATH", python_path())
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        machines.add_node(num_cpus=1)
        monkeypatch.setenv("BLIND", "1")
        machines.add_node(num_cpus=1)
        monkeypatch.delenv("BLIND")
        arguments = (tmp_path / "list.csv", tmp_path / "run", tmp_path)
        job = start("blind_run.py", *arguments, RAY_ADDRESS=machines.address)
        try:
            _, shown = job.communicate(timeout=PATIENCE)
        finally:
            job.kill()
    finally:
        machines.shutdown()
    assert job.returncode == 0, shown
    assert FOUND_BLIND in shown
    rows = list(open_run(str(tmp_path / "run")).ledger.rows())
    assert [row["status"] for row in rows] == ["judged"] * IMAGES
