"""Calls that may never return."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from cluster.storage import bounds
from cluster.storage.bounds import Late, Stopwatch, arrived, expect, within
from tests.support.held_clock import Clock
from tests.support.waiting import PATIENCE, until


def hanging(clock: Clock, go: threading.Event) -> Callable[[], str]:
    def call() -> str:
        clock.hangs.set()
        assert go.wait(PATIENCE)
        return "at last"

    return call


def test_what_a_call_returns_or_raises_comes_out(clock: Clock) -> None:
    assert within("x", 1.0, lambda: 7) == 7
    with pytest.raises(KeyError, match="mine"):
        within("x", 1.0, lambda: {}["mine"])
    with pytest.raises(SystemExit):  # drivers raise what is no Exception
        within("x", 1.0, lambda: exec("raise SystemExit"))


def test_a_call_that_hangs_is_left_behind(clock: Clock) -> None:
    go = threading.Event()
    with pytest.raises(Late, match=r"^s3://b/k: no answer in 30 s$"):
        within("s3://b/k", 25.0, hanging(clock, go))
    clock.hangs.clear()
    assert within("s3://b/k", 25.0, lambda: "others go on") == "others go on"
    go.set()
    until(lambda: not bounds._running)
    threads = len(bounds._idle)
    assert within("x", 25.0, lambda: "used again") == "used again"
    assert len(bounds._idle) == threads


def test_the_bound_grows_with_what_arrives_and_not_with_what_is_announced(clock: Clock) -> None:
    go, hung_up = threading.Event(), threading.Event()

    def call(count: int) -> None:
        expect(10**9)
        for _ in range(50):
            arrived(count)
        clock.hangs.set()
        assert go.wait(PATIENCE)
        try:
            arrived(1)
        except Late:
            hung_up.set()

    with pytest.raises(Late, match=r"^x: 100 of 1000000000 bytes arrived in 30 s$"):
        within("x", 20.0, lambda: call(2))
    go.set()
    assert hung_up.wait(PATIENCE)  # as nobody waits for the rest
    go.clear()
    clock.hangs.clear()
    with pytest.raises(Late, match=r"arrived in 70 s$"):
        within("x", 20.0, lambda: call(bounds.SLOWEST))
    go.set()


def test_bytes_that_are_sent_have_their_time(clock: Clock) -> None:
    go = threading.Event()
    with pytest.raises(Late, match="in 100 s"):
        within("x", 10.0, hanging(clock, go), size=90 * bounds.SLOWEST)
    go.set()


def test_time_in_which_the_process_was_suspended_hardly_counts() -> None:
    readings = iter([0.0, 1.0, 3601.0, 3602.0])
    watch = Stopwatch(lambda: next(readings))
    assert [watch.read() for _ in range(3)] == [1.0, 11.0, 12.0]


def test_calls_that_hang_have_a_number(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_MOST_STUCK", 2)
    until(lambda: not bounds._running)  # of other tests
    go = threading.Event()
    for _ in range(2):
        with pytest.raises(Late, match="no answer"):
            within("x", 10.0, hanging(clock, go))
    with pytest.raises(Late, match="2 other requests and reads hang already"):
        within("x", 10.0, lambda: "not begun")
    go.set()
    until(lambda: not bounds._running)
    assert within("x", 10.0, lambda: "begun") == "begun"
