"""Whose fault the end of a worker is. Ray is real; workers and machines are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.driver import dispatch
from cluster.driver.deaths import MAX_DEATHS_WITHOUT_WORK
from cluster.driver.dispatch import SILENCE_SECONDS
from cluster.inputs.source_check import SourceGone
from cluster.ray_runtime.runtime import EngineError
from cluster.storage.store import StoreError
from tests.support.driver_parts import NODE, Driver, has, machine, machines

__all__ = ["machines"]  # a fixture, for every test here

CUT_OFF = StoreError("s3://bucket/run: no answer")
DIED = ray.exceptions.RayActorError()
TAKEN = ray.exceptions.RayActorError(preempted=True)


def test_a_machine_that_is_disconnected_repeatedly_is_avoided(tmp_path: Path) -> None:
    driver = Driver(tmp_path, workers=2)
    driver.add("b")
    for _ in range(2):
        driver.dies("a", CUT_OFF)
    assert driver.pool.label_selector() == {}, "an outage meets every machine"
    driver.dies("a", CUT_OFF)
    assert driver.pool.label_selector() == {NODE: "!in(a)"}
    assert driver.deaths.capped(100) == 1, "nor are others hired at once"
    assert driver.causes() == set()


def test_the_run_ends_if_its_only_machine_is_disconnected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, machine("a"))
    driver = Driver(tmp_path, workers=1)
    for _ in range(2):
        driver.dies("a", CUT_OFF)
    with pytest.raises(EngineError, match=r"s3://bucket/run"):
        driver.dies("a", CUT_OFF)


def test_machines_that_vanish_do_not_make_a_run_start_workers_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a different machine, so none can be avoided. Those that a cloud takes away do not count."""
    driver = Driver(tmp_path, workers=1)
    has(monkeypatch, machine("b"), *(machine(str(i), alive=False) for i in range(100)))
    for i in range(3 * MAX_DEATHS_WITHOUT_WORK):
        driver.dies(str(i), TAKEN)
    for i in range(MAX_DEATHS_WITHOUT_WORK):
        driver.dies(str(i), DIED)
    driver.deaths.work_done()
    for i in range(MAX_DEATHS_WITHOUT_WORK):
        driver.dies(str(i), DIED)
    busy = driver.add("b")
    driver.dies("99", DIED)
    driver.pool.release(busy)
    assert driver.causes() == set()
    driver = Driver(tmp_path, workers=1)
    for i in range(MAX_DEATHS_WITHOUT_WORK):
        driver.dies(str(i), DIED)
    with pytest.raises(EngineError, match=r"^21 workers .* to resume"):
        driver.dies("98", DIED)


def test_a_machine_that_is_lost_repeatedly_is_avoided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray gives it a new id each time; its address stays the same."""
    here = {"NodeManagerAddress": "10.0.0.9"}
    driver = Driver(tmp_path, workers=2)
    driver.add("b").address = "10.0.0.b"
    for node in ("a1", "a2", "a3", "a4"):
        has(monkeypatch, machine("b"), {**machine(node), **here})
        handle = driver.add(node)
        stays = driver.failures.may_stay(handle, node)
        assert stays == (node != "a4")
        if stays:
            assert handle.address == "10.0.0.9"
            has(monkeypatch, machine("b"), {**machine(node, alive=False), **here})
            driver.failures.ended(handle, DIED)
    assert driver.pool.label_selector() == {NODE: "!in(a4)"}


def test_a_machine_without_the_collection_is_avoided_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = SourceGone("/mnt/share does not exist on a; mount or bring it back")
    driver = Driver(tmp_path, workers=2)
    driver.add("b")
    driver.dies("a", gone)
    assert driver.pool.label_selector() == {NODE: "!in(a)"} and driver.causes() == set()
    has(monkeypatch, machine("a"))
    with pytest.raises(EngineError, match=r"/mnt/share does not exist on a; mount or .* to resume"):
        Driver(tmp_path, workers=2).dies("a", gone)


def test_a_suspended_driver_takes_no_worker_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must listen to the workers first; one that stays silent while it listens is dead."""
    monkeypatch.setattr(dispatch.ray, "wait", lambda requested, **how: ([], requested))
    driver = Driver(tmp_path, workers=1)
    handle = driver.add("a")
    driver.leases.grant(handle.name, 2)
    answer: Any = object()
    handle.answer, handle.called_at = answer, driver.pool.clock.now()
    driver.time.seconds += 100 * SILENCE_SECONDS
    driver.wait_for_answers()
    assert len(driver.pool) == 1 and driver.deaths.total == 0
    for _ in range(int(SILENCE_SECONDS) + 1):
        driver.time.seconds += 1
        driver.wait_for_answers()
    assert len(driver.pool) == 0 and driver.deaths.total == 1
    assert driver.causes() == {f"no answer for {SILENCE_SECONDS:g} s"}


def test_a_machine_that_hangs_repeatedly_fails_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be suspended: while nothing else is judged, that is as likely as an image that hangs it."""
    monkeypatch.setattr(dispatch.ray, "wait", lambda requested, **how: ([], requested))
    driver = Driver(tmp_path, workers=2)
    driver.add("b")
    for _ in range(1 + 3 * 10):
        handle = driver.add("a")
        handle.judged = 1
        assert driver.leases.grant(handle.name, 10)
        answer: Any = object()
        handle.answer, handle.called_at = answer, driver.pool.clock.now()
        for _ in range(int(SILENCE_SECONDS) + 1):
            driver.time.seconds += 1
            driver.wait_for_answers()
        assert handle.name not in driver.pool.handles
    assert driver.leases.open == 10
