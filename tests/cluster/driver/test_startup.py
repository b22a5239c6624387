"""Workers that have a machine and never answer. Ray is real; most workers are not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from cluster.driver import dispatch
from cluster.driver.startup import START_SECONDS
from cluster.driver.worker_handle import WorkerHandle
from cluster.ray_runtime import ray_health
from cluster.ray_runtime.runtime import EngineError
from tests.support.driver_parts import NODE, Driver, machines
from tests.support.waiting import until

# Private: ActorHandle._actor_id, because only the actor itself has a public call for its id.

__all__ = ["machines"]  # a fixture, for every test here


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch.ray, "wait", lambda requested, **how: ([], requested))


def starting(driver: Driver, name: str) -> WorkerHandle:
    """A worker that was called, and has not answered."""
    handle = driver.add("", capacity=0)
    handle.actor = SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda: name))
    answer: Any = object()
    handle.answered, handle.node, handle.answer = False, None, answer
    return handle


def listen(driver: Driver, seconds: float) -> None:
    for _ in range(int(seconds)):
        driver.time.seconds += 1
        driver.wait_for_answers()


def test_a_silent_worker_is_given_up_only_if_it_has_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_health, "machines_of_actors", lambda: {"stuck": "a"})
    driver = Driver(tmp_path, workers=2)
    waits, stuck = starting(driver, "waits"), starting(driver, "stuck")
    driver.time.seconds += 100 * START_SECONDS  # asleep: it must hear them first
    listen(driver, START_SECONDS)
    assert set(driver.pool.handles) == {waits.name, stuck.name}
    listen(driver, 60)
    assert set(driver.pool.handles) == {waits.name} and driver.deaths.total == 1
    assert driver.pool.label_selector() == {NODE: "!in(a)"}, "its machine is at fault"
    listen(driver, 10 * START_SECONDS)
    assert set(driver.pool.handles) == {waits.name}


def test_one_that_has_a_machine_waits_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress line does not say that it waits, and it is not released to try failed machines again."""
    there: dict[str, str] = {}
    monkeypatch.setattr(ray_health, "machines_of_actors", lambda: there)
    driver = Driver(tmp_path, workers=1)
    driver.pool.avoid_failed_machine("b")
    handle = starting(driver, "slow")
    handle.called_at = 1.0
    listen(driver, START_SECONDS / 2 + 20)
    assert driver.pool.is_stuck() and "waiting for a machine" in driver.pool.waiting_for()
    there["slow"] = "a"
    listen(driver, START_SECONDS / 2)
    assert not driver.pool.is_stuck() and driver.pool.waiting_for() == "starting a worker"


def test_the_run_ends_if_no_worker_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_health, "machines_of_actors", lambda: {"stuck": "a"})
    driver = Driver(tmp_path, workers=1)
    with pytest.raises(EngineError, match=r"^3 workers .*no answer in 600 s"):
        for _ in range(3):
            starting(driver, "stuck")
            listen(driver, START_SECONDS + 60)


@ray.remote(num_cpus=0)
class Actor:
    """Starts when a file is there."""

    def __init__(self, file: Path) -> None:
        until(file.exists)


def test_ray_reports_which_workers_have_a_machine(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    (node,) = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    hangs = Actor.remote(tmp_path / "go")
    waits = Actor.options(num_cpus=1000).remote(tmp_path / "go")
    id_of = lambda actor: actor._actor_id.hex()  # noqa: E731
    try:
        until(lambda: ray_health.machines_of_actors().get(id_of(hangs)) == node)
        assert id_of(waits) not in ray_health.machines_of_actors()
    finally:
        (tmp_path / "go").touch()
        ray.kill(waits)
        ray.kill(hangs)
