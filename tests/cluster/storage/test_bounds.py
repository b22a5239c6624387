"""Calls that may never return."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from cluster.storage import bounds
from cluster.storage.bounds import Late, Stopwatch, bytes_arrived, call_within, expect_bytes
from tests.support.held_clock import Clock
from tests.support.waiting import PATIENCE, until

# Private: bounds._running and bounds._idle, because no public call tells when an abandoned call has ended, or
# which helper threads are free.


def hanging(clock: Clock, go: threading.Event) -> Callable[[], str]:
    def call() -> str:
        clock.hangs.set()
        assert go.wait(PATIENCE)
        return "at last"

    return call


def test_results_and_exceptions_are_passed_on(clock: Clock) -> None:
    assert call_within("x", 1.0, lambda: 7) == 7
    with pytest.raises(KeyError, match="mine"):
        call_within("x", 1.0, lambda: {}["mine"])
    with pytest.raises(SystemExit):  # obstore raises errors that are no Exception
        call_within("x", 1.0, lambda: exec("raise SystemExit"))


def test_a_call_that_hangs_is_abandoned(clock: Clock) -> None:
    go = threading.Event()
    with pytest.raises(Late, match=r"^s3://b/k: no answer in 30 s$"):
        call_within("s3://b/k", 25.0, hanging(clock, go))
    clock.hangs.clear()
    assert call_within("s3://b/k", 25.0, lambda: "other calls work") == "other calls work"
    go.set()
    until(lambda: not bounds._running)
    threads = len(bounds._idle)
    assert call_within("x", 25.0, lambda: "used again") == "used again"
    assert len(bounds._idle) == threads


def test_the_bound_grows_with_arriving_bytes_not_with_announced_ones(clock: Clock) -> None:
    go, hung_up = threading.Event(), threading.Event()

    def call(count: int) -> None:
        expect_bytes(10**9)
        for _ in range(50):
            bytes_arrived(count)
        clock.hangs.set()
        assert go.wait(PATIENCE)
        try:
            bytes_arrived(1)
        except Late:
            hung_up.set()

    with pytest.raises(Late, match=r"^x: 100 of 1000000000 bytes arrived in 30 s$"):
        call_within("x", 20.0, lambda: call(2))
    go.set()
    assert hung_up.wait(PATIENCE)  # as nobody waits for the rest
    go.clear()
    clock.hangs.clear()
    with pytest.raises(Late, match=r"arrived in 70 s$"):
        call_within("x", 20.0, lambda: call(bounds.SLOWEST))
    go.set()


def test_sent_bytes_extend_the_bound(clock: Clock) -> None:
    go = threading.Event()
    with pytest.raises(Late, match="in 100 s"):
        call_within("x", 10.0, hanging(clock, go), size=90 * bounds.SLOWEST)
    go.set()


def test_suspended_time_hardly_counts() -> None:
    readings = iter([0.0, 1.0, 3601.0, 3602.0])
    watch = Stopwatch(lambda: next(readings))
    assert [watch.read() for _ in range(3)] == [1.0, 11.0, 12.0]


def test_the_number_of_hanging_calls_is_limited(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_STUCK", 2)
    until(lambda: not bounds._running)  # of other tests
    go = threading.Event()
    for _ in range(2):
        with pytest.raises(Late, match="no answer"):
            call_within("x", 10.0, hanging(clock, go))
    with pytest.raises(Late, match="2 earlier requests"):
        call_within("x", 10.0, lambda: "not begun")
    go.set()
    until(lambda: not bounds._running)
    assert call_within("x", 10.0, lambda: "begun") == "begun"
