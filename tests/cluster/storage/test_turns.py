"""Queues and locks, with clocks that jump, holders that are suspended and objects that are damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from threading import Lock as Mutex
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.storage import turns
from cluster.storage.lock import STALE_SECONDS, Lock, LockLost
from cluster.storage.store import open_store
from cluster.storage.turns import CONFIRM_SECONDS, Place, Superseded
from tests.support.settable_clocks import ClockedStore, Time
from tests.support.waiting import PATIENCE, until

STALE = 100.0
HOUR = 3600.0
FOLDER = "progress/queue"


def place(store: Any, time: Time, **about: Any) -> Place:
    return Place(store, FOLDER, about, stale_seconds=STALE, clock=time)


def elsewhere(monkeypatch: pytest.MonkeyPatch, host: str = "elsewhere") -> None:
    """Let everything that is written from now on come from processes of a different machine."""
    monkeypatch.setattr(turns, "this_process", lambda: {"host": host, "pid": 1})


def taken(store: Any, time: Time, **about: Any) -> Place:
    one = place(store, time, **about)
    one.join()
    return one


def watched(one: Place, time: Time, seconds: float) -> list[bool]:
    """Whether anybody is ahead, at each look within so many seconds."""
    seen = []
    for _ in range(int(seconds)):
        seen.append(bool(one.ahead()))
        time.pass_by(1.0)
    return seen


def test_later_processes_wait() -> None:
    time = Time()
    store = ClockedStore(time)
    first, second, third = (taken(store, time, name=name) for name in "abc")
    assert first.number < second.number < third.number
    assert first.ahead() == []
    assert [claim.content["name"] for claim in third.ahead()] == ["a", "b"]
    second.leave()
    assert [claim.content["name"] for claim in third.ahead()] == ["a"]
    assert third.ahead(lambda claim: claim.content["name"] != "a") == []
    for one in (first, third):
        one.leave()
    assert list(store.list()) == []


def test_a_process_with_a_lower_number_than_a_started_one_joins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that looked while the queue was empty, and creates its claim after another has started."""
    time = Time()
    store = ClockedStore(time)
    late, quick = place(store, time), place(store, time)
    dates = iter([1000.0, 2000.0])
    monkeypatch.setattr(turns, "time", SimpleNamespace(time=lambda: next(dates)))
    create = store.create

    def overtaken(path: str, data: bytes) -> bool:
        store.create = create  # type: ignore[method-assign]
        quick.join()
        return create(path, data)

    store.create = overtaken  # type: ignore[method-assign, assignment]
    late.join()
    assert late.number > quick.number == 2_000_001
    assert quick.ahead() == [] and len(late.ahead()) == 1


@given(ahead_by=st.floats(-HOUR, HOUR), whole_seconds=st.booleans(), silent=st.floats(0, 3 * STALE))
def test_liveness_does_not_depend_on_the_holders_clock(
    ahead_by: float, whole_seconds: bool, silent: float
) -> None:
    """Whatever its own clock shows, a holder that is silent for less than the limit keeps its place, and one
    that died loses it soon after."""
    time = Time()
    store = ClockedStore(time, whole_seconds)
    with pytest.MonkeyPatch.context() as patch:
        elsewhere(patch)
        skewed = SimpleNamespace(now=lambda zone: datetime.now(zone) + timedelta(seconds=ahead_by))
        patch.setattr(turns, "datetime", skewed)
        patch.setattr(turns.time, "time", lambda: datetime.now(UTC).timestamp() + ahead_by)
        holder = taken(store, time)
        holder.renew()
    time.pass_by(silent)
    other = taken(store, time)
    assert other.number > holder.number
    left = max(0.0, STALE - silent)
    assert all(watched(other, time, left - 2))
    assert not watched(other, time, CONFIRM_SECONDS + 5)[-1]


@given(set_by=st.floats(-HOUR, HOUR), when=st.floats(0, 60))
def test_setting_the_stores_clock_drops_no_living_process(set_by: float, when: float) -> None:
    time = Time()
    store = ClockedStore(time)
    with pytest.MonkeyPatch.context() as patch:
        elsewhere(patch)
        holder, other = taken(store, time), taken(store, time)
        for second in range(120):
            if second >= when:
                time.set_by = set_by
            if second % 15 == 0:
                holder.renew()
                other.renew()
            assert other.ahead()
            time.pass_by(1.0)
    # the holder dies, and goes when the silence has lasted, whatever the store's clock said before
    assert not watched(other, time, STALE + CONFIRM_SECONDS)[-1]


def test_a_process_that_died_before_the_clock_was_set_back_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = Time(set_by=HOUR)
    store = ClockedStore(time)
    with monkeypatch.context() as patch:
        elsewhere(patch)
        taken(store, time).renew()
    time.set_by = 0.0
    other = taken(store, time)
    (claim,) = other.ahead()
    assert claim.doubtful and claim.age < 0
    seen = watched(other, time, STALE + 5)
    assert all(seen[: int(STALE) - 1]) and not seen[-1]


def test_an_outage_for_all_drops_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    store = ClockedStore(time)
    elsewhere(monkeypatch)
    holder, other = taken(store, time), taken(store, time)
    assert all(watched(other, time, 10))
    time.pass_by(4 * STALE)  # in which no request is answered
    other.renew()
    assert all(watched(other, time, 15))
    holder.renew()
    assert all(watched(other, time, STALE - 5))


def test_a_process_known_to_have_ended_is_removed_at_once() -> None:
    time = Time()
    store = ClockedStore(time)
    with pytest.MonkeyPatch.context() as patch:
        dead = {**turns.this_process(), "pid": 2**22 + 1}
        patch.setattr(turns, "this_process", lambda: dead)
        taken(store, time).renew()
    other = taken(store, time)
    assert other.ahead() == []
    assert len(list(store.list())) == 1


def test_a_process_of_the_same_id_in_a_different_container_is_not_dead() -> None:
    time = Time()
    store = ClockedStore(time)
    with pytest.MonkeyPatch.context() as patch:
        there = {**turns.this_process(), "pid": 2**22 + 1, "namespace": 1}
        patch.setattr(turns, "this_process", lambda: there)
        taken(store, time)
    assert all(watched(taken(store, time), time, STALE - 1))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "other bytes": lambda data: b"\xff\xfe" * 20,
    "a list": lambda data: b"[1, 2]",
    "a number that is none": lambda data: b'{"pid": "x", "host": [], "boot": {}, "started": "y", "role": 3}',
    "deep": lambda data: b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("what", ["claim", "beat"])
def test_a_damaged_claim_counts_until_it_is_stale(damage: Callable[[bytes], bytes], what: str) -> None:
    time = Time()
    store = ClockedStore(time)
    holder = taken(store, time)
    holder.renew()
    for found in store.list(FOLDER):
        if what in found.path:
            store.write(found.path, damage(store.read(found.path)))
    other = taken(store, time)
    assert other.ahead()[0].who
    holder.renew()  # is not affected
    time.pass_by(STALE / 2)
    assert other.ahead()
    for found in store.list(FOLDER):
        if str(holder.number) in found.path:
            store.write(found.path, damage(b"xx"))
    time.pass_by(STALE + 2)
    assert not watched(other, time, CONFIRM_SECONDS + 2)[-1]
    assert all(str(other.number) in found.path for found in store.list(FOLDER))


def test_a_suspended_holder_finds_its_place_taken() -> None:
    time = Time()
    store = ClockedStore(time)
    holder, other = taken(store, time), taken(store, time)
    assert other.ahead()
    time.pass_by(STALE + 1)
    assert not watched(other, time, CONFIRM_SECONDS + 2)[-1]
    before = {found.path: store.read(found.path) for found in store.list(FOLDER)}
    with pytest.raises(Superseded, match="another has taken its place"):
        holder.renew()
    holder.leave()
    assert {found.path: store.read(found.path) for found in store.list(FOLDER)} == before
    other.renew()


def test_a_holder_that_resumes_at_the_last_moment_is_waited_for() -> None:
    time = Time()
    store = ClockedStore(time)
    holder, other = taken(store, time), taken(store, time)
    holder.renew()
    time.pass_by(STALE + 1)
    assert all(watched(other, time, CONFIRM_SECONDS))
    delete = store.delete

    def returning(path: str) -> None:
        store.delete = delete  # type: ignore[method-assign]
        delete(path)
        with pytest.raises(Superseded):
            holder.renew()

    store.delete = returning  # type: ignore[method-assign]
    while len(other.ahead()) == 1 and store.delete is returning:
        time.pass_by(1.0)
    assert len(other.ahead()) == 1  # it stops soon
    holder.leave()
    assert other.ahead() == []


@pytest.fixture(params=["local", "memory", "s3"])
def a_store(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    if request.param == "s3":
        return open_store(f"{request.getfixturevalue('s3')}/{tmp_path.name}")
    return open_store(str(tmp_path / "run") if request.param == "local" else "memory://")


def test_one_of_many_simultaneous_processes_holds_the_lock(
    a_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.storage.lock.PAUSE_SECONDS", 0.01)
    together, mutex = Barrier(6), Mutex()
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        together.wait(PATIENCE)
        for _ in range(3):
            with Lock(a_store, "progress/lock"):
                with mutex:
                    inside.append(number)
                    most.append(len(inside))
                with mutex:
                    inside.remove(number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert most == [1] * 18
    assert list(a_store.list("progress")) == []


def test_processes_wait_for_a_lock() -> None:
    store = open_store("memory://")
    order: list[str] = []

    def other() -> None:
        with Lock(store, "lock"):
            order.append("other")

    with Lock(store, "lock"):
        thread = Thread(target=other)
        thread.start()
        until(lambda: len(list(store.list("lock"))) == 2)
        order.append("first")
    thread.join(PATIENCE)
    assert order == ["first", "other"]


def test_a_lost_lock_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    store = ClockedStore(time)
    monkeypatch.setattr("cluster.storage.lock.time", SimpleNamespace(sleep=time.pass_by))
    with Lock(store, "lock", time) as lock:
        lock.renew()
        time.pass_by(STALE_SECONDS + 1)
        with Lock(store, "lock", time) as other:
            with pytest.raises(LockLost, match="the lock lock was lost"):
                lock.renew()
            other.renew()
    assert list(store.list()) == []


def test_check_looks_at_a_lock_that_was_just_renewed() -> None:
    store = open_store("memory://")
    with Lock(store, "lock") as lock:
        lock.check()
        for found in list(store.list("lock")):  # as whoever takes it does
            store.delete(found.path)
        lock.renew()  # too early to look
        with pytest.raises(LockLost):
            lock.check()
        with pytest.raises(LockLost):  # as is known by now
            lock.renew()
    assert list(store.list()) == []


def test_claims_and_heartbeats_are_readable_json() -> None:
    store = open_store("memory://")
    one = Place(store, FOLDER, {"role": "audit"}, stale_seconds=STALE)
    one.join()
    one.renew({"done": 3})
    messages = [json.loads(store.read(found.path)) for found in store.list(FOLDER)]
    assert {output["role"] for output in messages} == {"audit"} and any(
        output.get("done") == 3 for output in messages
    )
