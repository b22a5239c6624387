"""A Ray that has ended, or does not answer, ends the run and is not waited for. Ray's answers are not
real."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import ray

from cluster.driver import resources
from cluster.ray_runtime import ray_health, shutdown
from cluster.ray_runtime.observer_clock import ObserverClock
from cluster.ray_runtime.ray_health import ANSWER_SECONDS, RayHealth, bounded
from cluster.ray_runtime.runtime import EngineError
from cluster.settings import ClusterSettings
from tests.support.set_time import SetTime
from tests.support.waiting import PATIENCE, until

# Private: RayHealth._asked, because no public call waits until Ray's head has answered.


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Resets what a test may leave, so that a later test's Ray is shut down without hurry."""
    monkeypatch.setattr(ray_health, "ended_here", lambda: [])
    yield
    shutdown.ray_is_silent.clear()


def look(health: RayHealth) -> None:
    """Checks until Ray's answer has come in."""
    health.check()
    call = health._asked
    if call is not None:
        assert call.ended.wait(PATIENCE)
        health.check()


def watch(health: RayHealth, time: SetTime, seconds: int) -> None:
    for _ in range(seconds):
        time.seconds += 1
        look(health)


@pytest.mark.parametrize(("on_cluster", "ends"), [(False, True), (True, False)])
def test_without_any_machine_a_ray_of_this_machine_has_ended(
    monkeypatch: pytest.MonkeyPatch, on_cluster: bool, ends: bool
) -> None:
    """On a cluster others may come."""
    time = SetTime()
    alive = {"NodeID": "a", "Alive": True}
    monkeypatch.setattr(ray, "nodes", lambda: [alive])
    health = RayHealth(ObserverClock(time), on_cluster)
    watch(health, time, 200)
    alive["Alive"] = False
    watch(health, time, 30)
    alive["Alive"] = True
    watch(health, time, 30)
    alive["Alive"] = False
    if ends:
        with pytest.raises(EngineError, match=r"on this machine has ended .* to resume"):
            watch(health, time, 200)
    else:
        watch(health, time, 200)


def test_a_head_that_does_not_answer_ends_the_run_at_any_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    time, answers = SetTime(), threading.Event()
    monkeypatch.setattr(ray, "nodes", lambda: answers.wait(PATIENCE) and [])
    health = RayHealth(ObserverClock(time), on_cluster=True)
    health.check()
    time.seconds += 10_000  # asleep: nothing that the head did
    health.check()
    with pytest.raises(EngineError, match=r"head does not answer .* to resume"):
        for _ in range(int(ANSWER_SECONDS) + 1):
            time.seconds += 1
            health.check()
    assert shutdown.ray_is_silent.is_set(), "nor is it waited for at the end"
    answers.set()


@pytest.mark.parametrize("ask", ["room", "gpus_of", "check_machine", "check_prices"])
def test_calls_before_the_first_worker_have_a_timeout(monkeypatch: pytest.MonkeyPatch, ask: str) -> None:
    answers, how = threading.Event(), ClusterSettings(max_cost=1.0)
    for name in ("nodes", "cluster_resources"):
        monkeypatch.setattr(ray, name, lambda: answers.wait(PATIENCE))
    monkeypatch.setattr(ray_health.bounded, "__defaults__", (1.0,))
    calls = {
        "room": lambda: resources.room(how, 0, 1),
        "gpus_of": lambda: resources.gpus_of(None, 1.0, False),
        "check_machine": lambda: resources.check_machine(how, 0),
        "check_prices": lambda: resources.check_prices(how, 1.0, False),
    }
    try:
        with pytest.raises(EngineError, match=r"head does not answer .* to resume"):
            calls[ask]()
    finally:
        answers.set()


def test_a_process_of_ray_that_died_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_health, "ended_here", lambda: ["raylet"])
    with pytest.raises(EngineError, match=r"has ended \(its raylet died\)"):
        RayHealth(ObserverClock(), on_cluster=False).check()


def test_a_call_has_a_bound() -> None:
    answers = threading.Event()
    with pytest.raises(EngineError, match=r"does not answer .*the time"):
        bounded(lambda: answers.wait(PATIENCE), "for the time", seconds=1.0)
    answers.set()
    assert bounded(lambda: 7, "for a number") == 7
    with pytest.raises(LookupError, match="no such"):
        bounded(lambda: {}["no such"], "for what is not there")


def test_a_ray_that_cannot_be_shut_down_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, left = threading.Event(), []
    monkeypatch.setattr(ray, "shutdown", lambda: answers.wait(PATIENCE))
    monkeypatch.setattr(shutdown.atexit, "unregister", left.append)
    monkeypatch.setattr(shutdown, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(shutdown, "kill_own_head", lambda: left.append("killed"))
    shutdown.do_not_wait_for_ray()
    shutdown.shut_down()
    assert left[-1] is ray.shutdown and "killed" in left
    answers.set()
    until(lambda: not any(thread.name == "ends Ray" for thread in threading.enumerate()))
