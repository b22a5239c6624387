"""Which machines workers are hired on, and what they cost. Ray is real; its machines are set by the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from cluster.driver import worker_pool
from cluster.driver.deaths import DeathCounter
from cluster.driver.resources import NoPrice, check_prices
from cluster.driver.worker_pool import WorkerPool
from cluster.ray_runtime.runtime import EngineError
from cluster.settings import ClusterSettings
from cluster.worker.messages import Task
from tests.support.driver_parts import ACCELERATOR, NODE, has, machine
from tests.support.mean_colour import MeanColour

MANY = 1000
"""Workers: more than any machine of these tests has room for."""


@pytest.fixture
def task(tmp_path: Path, local_ray: None) -> Task:
    return Task(str(tmp_path / "run"), MeanColour, {})


def test_a_machine_that_failed_is_avoided_if_there_are_others(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = WorkerPool(task, ClusterSettings(cpus_per_worker=2), 0, on_cluster=False)
    for other in (machine("b", cpus=1), machine("b", alive=False)):  # too small, and gone
        has(monkeypatch, machine("a"), other)
        pool.avoid_failed_machine("a")
        assert pool.label_selector() == {}
    has(monkeypatch, machine("a"), machine("b"), machine("c"))
    pool.avoid_failed_machine("a")
    pool.avoid_leaving_machine("b")
    pool.avoid_failed_machine("c")
    assert pool.label_selector() == {NODE: "!in(a,b)"}, "the last one is kept"


@pytest.mark.parametrize(
    ("on_cluster", "most", "avoided"),
    [(True, MANY, True), (True, 1, False), (False, MANY, False)],
    ids=["a cluster that may grow", "it has all that are wanted", "one machine"],
)
def test_the_only_machine_is_avoided_if_others_may_join(
    task: Task, monkeypatch: pytest.MonkeyPatch, on_cluster: bool, most: int, avoided: bool
) -> None:
    pool = WorkerPool(task, ClusterSettings(max_workers=most), 0, on_cluster)
    has(monkeypatch, machine("a"))
    pool.avoid_failed_machine("a")
    assert pool.label_selector() == ({NODE: "!in(a)"} if avoided else {})


def test_a_machine_that_alternately_works_and_fails_is_avoided(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = WorkerPool(task, ClusterSettings(), 0, on_cluster=False)
    has(monkeypatch, machine("a"), machine("b"))
    for node in ("a", "b", None, "a", None, None):
        pool.note_machine_failure(node)
    assert pool.label_selector() == {}
    pool.note_machine_failure("a")
    assert pool.label_selector() == {NODE: "!in(a)"}
    for _ in range(3):
        pool.note_machine_failure("b")
    assert pool.label_selector() == {NODE: "!in(a)"}, "there is no other one any more"
    pool.forget_failures()
    for _ in range(2):
        pool.note_machine_failure("a")
    assert pool.label_selector() == {}, "it is counted anew"


def test_failed_machines_are_tried_again_if_no_other_joins(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers cannot be placed until the failures of the only machine are forgotten."""
    (here,) = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    pool = WorkerPool(task, ClusterSettings(), 0, on_cluster=False)
    has(monkeypatch, machine(here), machine("b"))
    pool.avoid_failed_machine(here)
    assert pool.label_selector() == {NODE: f"!in({here})"} and not pool.is_stuck(), "nobody waits"
    handles = [pool.hire(), pool.hire()]
    assert not pool.is_stuck(), "they were not asked"
    long_ago = pool.clock.now() - worker_pool.NO_MACHINE_SECONDS - 1
    handles[0].called_at = pool.clock.now()
    assert not pool.is_stuck()
    handles[1].called_at = long_ago
    assert pool.is_stuck()
    handles[0].answered = True
    assert not pool.is_stuck(), "one has a machine"
    handles[0].answered = False
    pool.forget_failures()
    assert len(pool) == 0 and pool.label_selector() == {}
    pool.avoid_leaving_machine(here)
    pool.hire().called_at = long_ago
    assert not pool.is_stuck(), "a machine that is taken away is not tried again"
    pool.close()


@pytest.mark.parametrize(
    ("selector", "prices", "output"),
    [
        ("L4", ("L4",), None),
        ("in(A10G,L4)", ("A10G", "L4"), None),
        ("in(A10G, L4)", ("A10G", "L4"), None),
        ("in(A10G,L4)", ("A10G",), "price .* on L4, .*--max-cost"),
        ("in(A10G,L4)", ("T4",), "price .* on A10G or L4, .*--max-cost"),
        ("!in(T4)", ("A10G", "L4", "T4"), r"accelerator-type=!in\(T4\) only excludes"),
        ("!T4", ("A10G", "L4", "T4"), "accelerator-type=!T4 only excludes"),
    ],
)
def test_with_a_bound_on_the_cost_all_kinds_of_a_label_need_a_price(
    selector: str, prices: tuple[str, ...], output: str | None
) -> None:
    how = ClusterSettings(labels={ACCELERATOR: selector}, prices=dict.fromkeys(prices, 1.0), max_cost=5.0)
    if output:
        with pytest.raises(NoPrice, match=output):
            check_prices(how, 1.0, on_cluster=False)
        how = how.model_copy(update={"max_cost": None})
    check_prices(how, 1.0, on_cluster=False)


def test_deaths_end_no_run_while_others_may_become_ready() -> None:
    deaths = DeathCounter()
    for _ in range(5):
        deaths.died_before_ready(2, "torch sees no GPU")
    assert deaths.capped(MANY) == 2, "and no more are hired meanwhile"
    with pytest.raises(EngineError, match="torch sees no GPU"):
        deaths.died_before_ready(0, "torch sees no GPU")


def test_a_cluster_that_may_grow_may_add_machines(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, machine("a"))
    assert not WorkerPool(task, ClusterSettings(max_workers=1), 0, on_cluster=False).may_get_other_machine(
        "a"
    )
    assert WorkerPool(task, ClusterSettings(max_workers=MANY), 0, on_cluster=True).may_get_other_machine("a")
