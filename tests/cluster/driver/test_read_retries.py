"""Whether an input that cannot be read is missing, or the machine that tried is at fault. Without Ray."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.driver.read_retries import HIRING_SECONDS, MANY, MAX_EXTRA_READS, ReadRetries
from cluster.driver.worker_handle import WorkerHandle
from cluster.run.leases import MISSING, MISSING_FOLDER, Lease, Leases
from tests.support.fake_workers import FakePool


class Scene:
    """Machines that can read some of the inputs each, and a driver that leases these, a few at a time."""

    def __init__(
        self,
        inputs: int,
        sees: dict[str, set[int]],
        stop_after: int | None = None,
        read_before: bool = False,
        folder: int = 1000,
        gone: Collection[int] = (),
    ) -> None:
        """``folder``: number of inputs in each folder; ``gone``: inputs whose folder no machine can read."""
        self.sees = sees
        self.gone = gone
        self.fleet = FakePool(*sees)
        queue = (Lease(i, f"u/{i}" if i < folder else f"u{i // folder}/{i}", 1) for i in range(inputs))
        self.leases = Leases(queue, inputs, read_before)
        pool: Any = self.fleet
        self.retries = ReadRetries(self.leases, pool, stop_after)
        self.found: list[int] = []
        self.missing: list[int] = []
        self.quit: list[str] = []

    def grant(self, handle: WorkerHandle, share: int = 2) -> list[Lease]:
        def may_retry_read(unread: Lease) -> bool:
            return self.retries.may_retry_read(handle, unread)

        if self.retries.may_take_new_inputs(handle):
            return self.leases.grant(
                handle.name, share, may_retry_read=may_retry_read, extra_reads=MAX_EXTRA_READS
            )
        return self.leases.grant(
            handle.name, 0, may_retry_read=may_retry_read, extra_reads=share + MAX_EXTRA_READS
        )

    def read(self, handle: WorkerHandle) -> None:
        """Lets a worker try to read all that it holds, and judge at once what it can read."""
        assert handle.node
        for lease in self.leases.held(handle.name):
            if lease.number in self.sees[handle.node]:
                blind = self.retries.note_read(handle, lease.number)
                self.leases.identify(handle.name, lease.number, str(lease.number))
                self.found += self.leases.settle(handle.name, lease.number, str(lease.number))
                for node in blind:
                    self.leave(node)
            elif lease.last_read:
                self.missing += self.leases.settle(handle.name, lease.number, "unread")
            else:
                reason = MISSING_FOLDER if lease.number in self.gone else MISSING
                self.retries.note_unreadable(handle, [lease.number], reason)

    def leave(self, node: str) -> None:
        self.quit.append(node)
        self.fleet.machines.discard(node)
        for handle in self.fleet:
            if handle.node == node:
                self.leases.give_back(handle.name)
                self.fleet.release(handle)

    def turn(self, handle: WorkerHandle) -> str | None:
        """One round of the driver, in which one worker reports."""
        for node in self.retries.machines_to_replace():
            self.leave(node)
            if self.fleet.machines and not len(self.fleet):
                self.fleet.add(min(self.fleet.machines))
        why = self.retries.review()
        if why is None and handle.name in self.fleet.handles:
            self.grant(handle)
            self.read(handle)
        return why

    def play(self, luck: random.Random | None = None) -> str | None:
        """Runs until all is settled, or until the run must stop; then returns why."""
        choose = (luck or random.Random(0)).choice
        for _ in range(3000):
            if not self.leases.open:
                return None
            why = self.turn(choose(list(self.fleet)))
            if why:
                return why
        raise AssertionError(f"no end: {self.leases.unread}")


@given(
    st.lists(st.sets(st.integers(0, 29)), min_size=1, max_size=3),
    st.integers(0, 30),
    st.sets(st.integers(0, 29)),
    st.randoms(use_true_random=False),
)
def test_every_input_ends_once_and_is_missing_only_if_it_was_searched_for(
    blind: list[set[int]], inputs: int, lost: set[int], luck: random.Random
) -> None:
    """``blind``: what each machine cannot read; ``lost``: what none can read."""
    nodes = {f"n{i}": set(range(30)) - unseen - lost for i, unseen in enumerate(blind)}
    scene = Scene(inputs, nodes)
    assert scene.play(luck) is None
    assert sorted(scene.found + scene.missing) == list(range(inputs))
    for number in scene.missing:
        sees = {node for node in nodes if number in nodes[node]}
        there = {handle.node for handle in scene.fleet}
        assert len(nodes) - len(sees) >= 2 or not sees & there, "nobody looked who sees it"


def test_a_machine_that_reads_nothing_is_released_and_rejects_no_input() -> None:
    scene = Scene(40, {"blind": set(), "sound": set(range(40))})
    assert scene.play() is None
    assert sorted(scene.found) == list(range(40)) and scene.missing == []
    assert scene.quit == ["blind"]


def test_a_machine_that_fails_to_read_waits_for_a_different_machine() -> None:
    scene = Scene(40, {"blind": set(), "sound": set(range(40))})
    blind = scene.fleet["blind"]
    for _ in range(20):
        scene.turn(blind)
    assert MANY <= len(scene.leases.unread) <= MANY + 2, "far from all"
    assert not scene.retries.may_take_new_inputs(blind)
    scene.fleet["sound"].leaving = True
    assert scene.retries.may_take_new_inputs(blind), "nobody else is there to look"


def test_a_machine_that_returns_starts_without_failures() -> None:
    scene = Scene(80, {"blind": set(), "sound": set(range(80))}, stop_after=100)
    for _ in range(2):
        for _ in range(20):
            for handle in scene.fleet:
                scene.turn(handle)
            if scene.fleet.machines == {"sound"}:
                break
        scene.retries.forget_failures()
        scene.fleet.machines.add("blind")
        scene.fleet.add("blind")
    assert scene.quit == ["blind", "blind"] and scene.missing == []


def test_other_machines_are_tried_again_once_failures_are_forgotten() -> None:
    scene = Scene(1, {"blind": set(), "other": set()}, stop_after=100)
    scene.fleet.release(scene.fleet["other"])
    scene.grant(scene.fleet["blind"])
    scene.read(scene.fleet["blind"])
    assert [scene.retries.machines_to_replace() for _ in range(2)] == [["blind"], []]
    scene.retries.forget_failures()
    assert scene.retries.machines_to_replace() == ["blind"]


def test_what_two_machines_do_not_find_is_missing_and_neither_is_blamed() -> None:
    seen = set(range(0, 60, 2))
    scene = Scene(60, {"a": seen, "b": seen})
    assert scene.play() is None
    assert sorted(scene.missing) == list(range(1, 60, 2)) and scene.quit == []


def test_a_machine_that_reads_some_inputs_is_not_released() -> None:
    """It never fails with five in a row, as it reads others in between."""
    scene = Scene(60, {"part": set(range(0, 60, 2)), "sound": set(range(60))})
    handle = scene.fleet["part"]
    for _ in range(200):
        scene.turn(handle)
        scene.turn(scene.fleet["sound"])
    assert sorted(scene.found) == list(range(60)) and scene.quit == []


def test_a_single_machine_reports_missing_inputs_once_it_has_read_one() -> None:
    scene = Scene(12, {"only": {10, 11}}, stop_after=11)
    only = scene.fleet["only"]
    for _ in range(5):
        assert scene.turn(only) is None
        assert scene.missing == [], "nothing was found yet"
    assert scene.play() is None
    assert sorted(scene.missing) == list(range(10)) and sorted(scene.found) == [10, 11]


def test_the_run_stops_before_reporting_all_inputs_missing() -> None:
    scene = Scene(300, {"only": {0, 1, 2, 3}}, stop_after=100)
    why = scene.play()
    assert why and why.startswith("100 inputs in a row")
    assert "cluster.stop_after_failures=null" in why
    assert scene.missing == [] and sorted(scene.found) == [0, 1, 2, 3]


def test_the_run_stops_if_two_machines_find_nothing() -> None:
    scene = Scene(300, {"a": set(), "b": set()}, stop_after=100)
    why = scene.play()
    assert why and why.startswith("10") and scene.missing == []


def test_a_short_list_of_missing_inputs_ends_with_all_reported() -> None:
    scene = Scene(30, {"only": set()}, stop_after=None)
    assert scene.play() is None
    assert sorted(scene.missing) == list(range(30))


@pytest.mark.parametrize(("inputs", "machines"), [(2, 1), (30, 1), (99, 2)])
def test_a_list_of_missing_inputs_stops_before_any_is_reported(inputs: int, machines: int) -> None:
    scene = Scene(inputs, {f"n{i}": set() for i in range(machines)}, stop_after=100)
    why = scene.play()
    assert why and why.startswith(f"{inputs} inputs ")
    assert scene.missing == [] and len(scene.leases.unread) == inputs


def test_a_single_input_is_missing_if_its_folder_exists() -> None:
    scene = Scene(1, {"only": set()}, stop_after=100)
    assert scene.play() is None and scene.missing == [0]
    why = Scene(1, {"only": set()}, stop_after=100, gone=[0]).play()
    assert why and why.startswith("1 input ")


def test_a_resumed_run_may_have_only_missing_inputs_left() -> None:
    """Earlier starts read the other inputs, which is no evidence for a folder that is not there now."""
    scene = Scene(30, {"only": set()}, stop_after=100, read_before=True)
    assert scene.play() is None and sorted(scene.missing) == list(range(30))
    scene = Scene(30, {"only": set()}, stop_after=100, read_before=True, folder=1, gone=range(30))
    assert scene.play() and scene.missing == []


def test_a_folder_that_is_gone_with_several_inputs_stops_the_run_when_all_else_is_done() -> None:
    """It may be a mount. Of the first thirty inputs all but one can be read, and of the other thirty none."""
    scene = Scene(60, {"only": set(range(1, 30))}, stop_after=100, folder=30, gone=range(30, 60))
    why = scene.play()
    assert why and why.startswith("30 inputs ")
    assert sorted(scene.found) == list(range(1, 30)) and scene.missing == [0]
    scene = Scene(300, {"only": set(range(0, 300, 2))}, stop_after=20, folder=1000, gone=range(1, 300, 2))
    why = scene.play()
    assert why and "folders, the last u/" in why
    assert scene.missing == [] and len(scene.found) < 100, "they do not pile up"


def test_missing_inputs_do_not_interrupt_images_in_progress() -> None:
    scene = Scene(3, {"only": {0}}, stop_after=100, gone=[1, 2])
    only = scene.fleet["only"]
    scene.grant(only, 3)
    scene.retries.note_read(only, 0)
    scene.retries.note_unreadable(only, [1, 2], MISSING_FOLDER)
    assert scene.retries.review() is None
    scene.leases.identify(only.name, 0, "0")
    scene.leases.settle(only.name, 0, "0")
    assert scene.retries.review()


def test_single_inputs_of_folders_are_missing_once_others_were_read() -> None:
    scene = Scene(60, {"only": set(range(30))}, stop_after=100, folder=1, gone=range(30, 60))
    assert scene.play() is None
    assert sorted(scene.missing) == list(range(30, 60))


def test_a_machine_that_sees_the_folder_is_trusted_before_one_that_does_not() -> None:
    scene = Scene(4, {"a": {0, 1}, "b": {0, 1}}, stop_after=100)
    for node, reason in (("a", MISSING), ("b", MISSING_FOLDER)):
        scene.gone = (2, 3) if reason == MISSING_FOLDER else ()
        scene.grant(scene.fleet[node], 4)
        scene.read(scene.fleet[node])
    assert {lease.unread_as for lease in scene.leases.unread} == {MISSING}
    assert scene.play() is None and sorted(scene.missing) == [2, 3]


def test_a_worker_starting_on_a_different_machine_is_waited_for_within_limits() -> None:
    scene = Scene(1, {"a": set()})
    scene.fleet.machines = {"a"}
    a, coming = scene.fleet["a"], scene.fleet.add(None, capacity=0)
    for _ in range(5):
        scene.turn(a)
    assert scene.missing == [] and len(scene.leases.unread) == 1
    scene.fleet.wait(HIRING_SECONDS + 1)
    scene.turn(a)
    assert scene.missing == [0]
    assert coming.name in scene.fleet.handles


def test_a_machine_that_never_read_anything_is_not_trusted_if_others_exist() -> None:
    """Although no worker is on the other one yet."""
    scene = Scene(1, {"blind": set(), "other": {0}})
    scene.fleet.release(scene.fleet["other"])
    assert scene.play() is None
    assert scene.found == [0] and scene.quit == ["blind"]


def test_nothing_is_decided_while_no_worker_is_ready() -> None:
    scene = Scene(200, {"a": set()}, stop_after=1)
    scene.fleet.machines = {"a"}
    a = scene.fleet["a"]
    scene.grant(a)
    scene.read(a)
    a.capacity = 0
    scene.fleet.wait(HIRING_SECONDS + 1)
    assert scene.retries.review() is None
    a.capacity = 2
    assert scene.retries.review() is not None


def test_unreadable_inputs_are_tried_on_other_machines_at_once() -> None:
    """An error other than absence is recorded by the second machine, and counts as a failure there."""
    scene = Scene(300, {"only": set()}, stop_after=1)
    only = scene.fleet["only"]
    scene.grant(only)
    scene.retries.note_unreadable(only, [0], "unreadable")
    assert scene.retries.review() is None
    assert [lease.last_read for lease in scene.leases.unread] == [True]


def test_a_suspect_that_cannot_be_read_stays_isolated() -> None:
    leases = Leases((Lease(i, f"u/{i}", 1) for i in range(3)), 3)
    leases.grant("a", 1)
    leases.suspect("a", [0], "boom", "n1")
    leases.grant("a", 2)
    for number in (1, 2):
        leases.settle("a", number, str(number))
    (suspect,) = leases.grant("a", 1)
    leases.note_unreadable("a", 0, "n1", MISSING)
    (again,) = leases.grant("b", 1)
    assert again.causes == suspect.causes == ("boom",) and again.unread_on == {"n1"}
    leases.give_back("b")
    assert [lease.number for lease in leases.unread] == [0]
