"""Which machines workers are hired on, and what they cost. Ray is real; a test says which machines it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from cluster.driver import workers as crews
from cluster.driver.deaths import Deaths
from cluster.driver.workers import Crew, NoPrice, check_prices
from cluster.ray_runtime.runtime import EngineError
from cluster.settings import ClusterSettings
from cluster.worker.worker import Task
from tests.support.driver_parts import ACCELERATOR, NODE, has, machine
from tests.support.mean_colour import MeanColour

MANY = 1000
"""Workers: more than any machine of these tests has room for."""


@pytest.fixture
def task(tmp_path: Path, local_ray: None) -> Task:
    return Task(str(tmp_path / "run"), MeanColour, {})


def test_a_machine_that_failed_is_avoided_where_there_is_another(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = Crew(task, ClusterSettings(cpus_per_worker=2), 0, on_cluster=False)
    for other in (machine("b", cpus=1), machine("b", alive=False)):  # too small, and gone
        has(monkeypatch, machine("a"), other)
        crew.avoid_failed("a")
        assert crew.wanted() == {}
    has(monkeypatch, machine("a"), machine("b"), machine("c"))
    crew.avoid_failed("a")
    crew.avoid("b")
    crew.avoid_failed("c")
    assert crew.wanted() == {NODE: "!in(a,b)"}, "the last one is kept"


@pytest.mark.parametrize(
    ("on_cluster", "most", "avoided"),
    [(True, MANY, True), (True, 1, False), (False, MANY, False)],
    ids=["a cluster that may grow", "it has all that are wanted", "one machine"],
)
def test_the_only_machine_is_avoided_where_others_may_come(
    task: Task, monkeypatch: pytest.MonkeyPatch, on_cluster: bool, most: int, avoided: bool
) -> None:
    crew = Crew(task, ClusterSettings(max_workers=most), 0, on_cluster)
    has(monkeypatch, machine("a"))
    crew.avoid_failed("a")
    assert crew.wanted() == ({NODE: "!in(a)"} if avoided else {})


def test_a_machine_that_works_and_fails_again_and_again_is_avoided(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = Crew(task, ClusterSettings(), 0, on_cluster=False)
    has(monkeypatch, machine("a"), machine("b"))
    for node in ("a", "b", None, "a", None, None):
        crew.failed_again(node)
    assert crew.wanted() == {}
    crew.failed_again("a")
    assert crew.wanted() == {NODE: "!in(a)"}
    for _ in range(3):
        crew.failed_again("b")
    assert crew.wanted() == {NODE: "!in(a)"}, "there is no other one any more"
    crew.forget_failures()
    for _ in range(2):
        crew.failed_again("a")
    assert crew.wanted() == {}, "it is counted anew"


def test_machines_that_failed_are_tried_again_where_no_other_one_comes(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers that no machine may take, until the failures of the only one are forgotten."""
    (here,) = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    crew = Crew(task, ClusterSettings(), 0, on_cluster=False)
    has(monkeypatch, machine(here), machine("b"))
    crew.avoid_failed(here)
    assert crew.wanted() == {NODE: f"!in({here})"} and not crew.waits_in_vain(), "nobody waits"
    members = [crew.hire(), crew.hire()]
    assert not crew.waits_in_vain(), "they were not asked"
    long_ago = crew.clock.now() - crews._NO_MACHINE_SECONDS - 1
    members[0].asked_at = crew.clock.now()
    assert not crew.waits_in_vain()
    members[1].asked_at = long_ago
    assert crew.waits_in_vain()
    members[0].answered = True
    assert not crew.waits_in_vain(), "one has a machine"
    members[0].answered = False
    crew.forget_failures()
    assert len(crew) == 0 and crew.wanted() == {}
    crew.avoid(here)
    crew.hire().asked_at = long_ago
    assert not crew.waits_in_vain(), "a machine that is taken away is not tried again"
    crew.close()


@pytest.mark.parametrize(
    ("selector", "prices", "said"),
    [
        ("L4", ("L4",), None),
        ("in(A10G,L4)", ("A10G", "L4"), None),
        ("in(A10G, L4)", ("A10G", "L4"), None),
        ("in(A10G,L4)", ("A10G",), "no price is known for a worker on L4, so --max-cost"),
        ("in(A10G,L4)", ("T4",), "no price is known for a worker on A10G or L4, so --max-cost"),
        ("!in(T4)", ("A10G", "L4", "T4"), r"accelerator-type=!in\(T4\) only excludes some: name those"),
        ("!T4", ("A10G", "L4", "T4"), "accelerator-type=!T4 only excludes some: name those"),
    ],
)
def test_with_a_bound_on_the_cost_all_kinds_of_a_label_need_a_price(
    selector: str, prices: tuple[str, ...], said: str | None
) -> None:
    how = ClusterSettings(labels={ACCELERATOR: selector}, prices=dict.fromkeys(prices, 1.0), max_cost=5.0)
    if said:
        with pytest.raises(NoPrice, match=said):
            check_prices(how, 1.0, on_cluster=False)
        how = how.model_copy(update={"max_cost": None})
    check_prices(how, 1.0, on_cluster=False)


def test_deaths_end_no_run_while_others_may_become_ready() -> None:
    deaths = Deaths()
    for _ in range(5):
        deaths.stillborn(2, "torch sees no GPU")
    assert deaths.capped(MANY) == 2, "and no more are hired meanwhile"
    with pytest.raises(EngineError, match="torch sees no GPU"):
        deaths.stillborn(0, "torch sees no GPU")


def test_a_cluster_that_may_grow_may_bring_another_machine(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, machine("a"))
    assert not Crew(task, ClusterSettings(max_workers=1), 0, on_cluster=False).may_come("a")
    assert Crew(task, ClusterSettings(max_workers=MANY), 0, on_cluster=True).may_come("a")
