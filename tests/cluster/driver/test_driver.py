"""The engine from driver to records, on a real Ray."""

from __future__ import annotations

import functools
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray

from cluster.driver import driver
from cluster.driver.resources import room
from cluster.inputs.identities import image_id_of
from cluster.ray_runtime.runtime import available_cpus, worker_environment
from cluster.run.folder import plan
from cluster.settings import ClusterSettings
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from originality.contract.scorer import Finished, Unusable
from tests.support.driven_run import drive
from tests.support.joined_inputs import inputs
from tests.support.mean_colour import BREAKS, KILLS, MeanColour, paint
from tests.support.places import SUPPORT, python_path
from tests.support.waiting import PATIENCE, until


def test_killers_and_breakers_fail_and_all_others_are_judged(tmp_path: Path, local_ray: None) -> None:
    folder = tmp_path / "in"
    for i in range(7):
        paint(folder, f"{i}.png", (i, i, i))
    paint(folder, "2-again.png", (2, 2, 2))
    paint(folder, "1-killer.png", KILLS)
    paint(folder, "4-breaker.png", BREAKS)
    (folder / "5-text.png").write_text("no image")
    run, counts, shown = drive(folder, tmp_path / "run")
    assert counts == {"judged": 8, "failed": 2, "rejected": 1}  # inputs: one image is there twice
    rows = {row["path"]: row for row in inputs(run)}
    assert rows["1-killer.png"]["status"] == "failed"
    assert rows["1-killer.png"]["error_class"] == "WorkerDied"
    assert rows["1-killer.png"]["attempts"] == 3
    assert rows["4-breaker.png"]["error_class"] == "RuntimeError"
    assert rows["5-text.png"]["error_class"] == "not-an-image"
    assert rows["2.png"]["image_id"] == rows["2-again.png"]["image_id"]
    assert all(rows[f"{i}.png"]["mean"] == [i, i, i] for i in range(7))
    assert rows["2-again.png"]["mean"] == [2, 2, 2]
    assert len(run.ledger.recorded()) == 10
    assert shown.startswith("0/11 done · starting Ray\n") and "a worker died: " in shown


def test_resume_does_not_touch_existing_records(tmp_path: Path, local_ray: None) -> None:
    folder = tmp_path / "in"
    for i in range(4):
        paint(folder, f"{i}.png", (i, i, i))
    run = plan(str(folder), open_store(str(tmp_path / "run")), {})
    done = image_id_of((folder / "1.png").read_bytes())
    run.ledger.commit(done, {"status": "judged", "mean": "kept"}, {})
    run, counts, _ = drive(folder, tmp_path / "run")
    assert counts == {"judged": 4}  # the one that is recorded is read, and found to be
    assert run.ledger.record(done)["mean"] == "kept"
    _, counts, _ = drive(folder, tmp_path / "run")
    assert counts == {}
    assert len(list(run.ledger.rows())) == 4


class Shared(MeanColour):
    """Starts when two workers have an image, however long one of them takes to start."""

    def __init__(self, folder: Path) -> None:
        super().__init__(capacity=2)
        self._folder = folder

    def step(self) -> list[Finished]:
        (self._folder / str(os.getpid())).touch()
        until(lambda: len(list(self._folder.iterdir())) >= 2)
        return super().step()


@pytest.mark.long
def test_workers_share_the_images_and_an_image_that_kills_affects_no_other(
    tmp_path: Path, local_ray: None
) -> None:
    folder = tmp_path / "in"
    for i in range(24):
        paint(folder, f"{i:02}.png", (i, i, i))
    paint(folder, "05-killer.png", KILLS)
    (tmp_path / "at-work").mkdir()
    factory = functools.partial(Shared, tmp_path / "at-work")
    run, counts, _ = drive(folder, tmp_path / "run", factory, workers=2)
    assert counts == {"judged": 24, "failed": 1}
    assert len(list((tmp_path / "at-work").iterdir())) >= 2
    fast = functools.partial(MeanColour, capacity=2, steps=2)
    one, counts, _ = drive(folder, tmp_path / "alone", fast, workers=1)
    assert counts == {"judged": 24, "failed": 1}
    first, second = ({r["path"]: (r["status"], r.get("mean")) for r in inputs(r)} for r in (run, one))
    assert first == second


class OnlyOneAtATime(MeanColour):
    """Behaves as if there were memory for one scorer only, which starts when the other worker has died."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._dead = folder / "dead"
        try:
            (folder / "taken").touch(exist_ok=False)
        except FileExistsError:
            self._dead.touch()
            os._exit(1)

    def step(self) -> list[Finished]:
        until(self._dead.exists)
        return super().step()


def test_a_run_finishes_without_a_worker_that_never_gets_ready(tmp_path: Path, local_ray: None) -> None:
    for i in range(12):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    factory = functools.partial(OnlyOneAtATime, tmp_path)
    _, counts, shown = drive(tmp_path / "in", tmp_path / "run", factory, workers=2)
    assert counts == {"judged": 12}
    assert "a worker died" in shown


def test_workers_are_limited_by_cpus(local_ray: None) -> None:
    cpus, memory = (ray.cluster_resources()[kind] for kind in ("CPU", "memory"))
    how = ClusterSettings()
    assert room(how, 0, 1) == cpus
    assert room(how, 0, int(memory)) == room(how, 0, 10 * int(memory)) == 1


def tells_its_threads() -> MeanColour:
    raise Unusable(f"{os.environ['OMP_NUM_THREADS']} threads")


@pytest.mark.long
def test_the_number_of_threads_is_independent_of_the_number_of_workers(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    expected = available_cpus() // room(ClusterSettings(), 0, Task.memory)
    for workers in (1, 2, None):
        with pytest.raises(Unusable, match=f"{expected} threads"):
            drive(tmp_path / "in", tmp_path / "run", tells_its_threads, workers=workers)


def needs_a_setting() -> MeanColour:
    raise Unusable("the model folder holds no safetensors")


def dies_at_birth() -> MeanColour:
    os._exit(1)


def checks_environment() -> MeanColour:
    expected = worker_environment(int(os.environ["OMP_NUM_THREADS"]))
    assert {name: os.environ.get(name) for name in expected} == expected
    return MeanColour()


@pytest.mark.long
def test_workers_that_never_get_ready(tmp_path: Path, local_ray: None) -> None:
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    with pytest.raises(Unusable, match="holds no safetensors"):
        drive(tmp_path / "in", tmp_path / "run", needs_a_setting)
    with pytest.raises(driver.EngineError, match=r"^3 workers died before"):
        drive(tmp_path / "in", tmp_path / "run", dies_at_birth)
    with pytest.raises(driver.NoGpu):
        drive(tmp_path / "in", tmp_path / "run", gpu=True)
    _, counts, _ = drive(tmp_path / "in", tmp_path / "run", checks_environment)
    assert counts == {"judged": 1}


class FailingCard(MeanColour):
    """Fails on green as a GPU does, and cannot be built again in the same process."""

    built = 0

    def __init__(self) -> None:
        FailingCard.built += 1
        if FailingCard.built > 1:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        super().__init__(capacity=2, seconds=0.1)


def test_a_worker_whose_card_failed_is_replaced(tmp_path: Path, local_ray: None) -> None:
    for i in range(6):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    paint(tmp_path / "in", "3-breaker.png", BREAKS)
    _, counts, shown = drive(tmp_path / "in", tmp_path / "run", FailingCard, workers=2)
    assert counts == {"judged": 6, "failed": 1}
    assert "a worker died: RuntimeError: CUDA error" in shown


def test_a_worker_too_large_for_this_machine(tmp_path: Path, local_ray: None) -> None:
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    run = plan(str(tmp_path / "in"), open_store(str(tmp_path / "run")), {})
    how = ClusterSettings(cpus_per_worker=64)
    with pytest.raises(driver.EngineError, match="64 CPUs"):
        driver.run(Task(run.store.url, MeanColour, {}), run.leases(np.arange(1)), how, gpu=False)


def test_a_duplicate_that_has_changed_since(tmp_path: Path, local_ray: None) -> None:
    folder = tmp_path / "in"
    for name in ("a.png", "b.png", "c.png"):
        paint(folder, name, (1, 1, 1))
    run = plan(str(folder), open_store(str(tmp_path / "run")), {})
    for number in range(3):
        run.identities.learn(number, image_id_of((folder / "a.png").read_bytes()))
    run.identities.save()
    paint(folder, "a.png", (2, 2, 2))
    (folder / "b.png").unlink()
    run, counts, _ = drive(folder, tmp_path / "run")
    assert counts == {"judged": 2, "failed": 1}
    rows = {row["path"]: (row["status"], row.get("mean")) for row in inputs(run)}
    assert rows == {"a.png": ("judged", [2, 2, 2]), "b.png": ("failed", None), "c.png": ("judged", [1, 1, 1])}


def hangs() -> MeanColour:
    scorer = MeanColour(capacity=1)
    scorer.step = lambda: time.sleep(600)
    return scorer


@pytest.mark.long
def test_a_step_without_end_is_a_death(tmp_path: Path, local_ray: None) -> None:
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    run = plan(str(tmp_path / "in"), open_store(str(tmp_path / "run")), {})
    task = Task(run.store.url, hangs, {}, step_limit=1.0)
    done = driver.run(task, run.leases(np.arange(1)), gpu=False, stream=io.StringIO())
    assert (done.counts, done.deaths) == ({"failed": 1}, 3)
    (row,) = run.ledger.rows()
    assert row["error_class"] == "WorkerDied" and "in 1 s" in row["error_message"]


@pytest.mark.long
def test_an_interrupt_keeps_finished_records(tmp_path: Path, local_ray: None) -> None:
    folder, output = tmp_path / "in", tmp_path / "run"
    for i in range(60):  # far more than are done before the signal comes
        paint(folder, f"{i}.png", (i, i, i))
    command = [sys.executable, str(SUPPORT / "slow_run.py"), str(folder), str(output), "0.3"]
    path = python_path()
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        until(lambda: len(list(output.glob("records/*/*.json"))) >= 2, process)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: Ray's processes get it too
        printed, shown = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130, shown
    finally:
        process.kill()
    assert printed == ""
    assert shown.startswith("0/60 done · starting Ray\n") and " in flight\n" in shown
    assert "stopping after this step" in shown
    before = {path: path.read_bytes() for path in output.glob("records/*/*.json")}
    assert 2 <= len(before) < 60
    fast = functools.partial(MeanColour, capacity=2, steps=3)
    run, counts, _ = drive(folder, output, fast)
    assert counts == {"judged": 60 - len(before)}
    assert len(list(run.ledger.rows())) == 60
    assert all(path.read_bytes() == data for path, data in before.items())
