from __future__ import annotations

from collections.abc import Iterator

from cluster.ray_runtime.observer_clock import MOST_SECONDS, ObserverClock


def clock_at(*times: float) -> ObserverClock:
    readings: Iterator[float] = iter(times)
    return ObserverClock(lambda: next(readings))


def test_time_between_readings_that_are_far_apart_does_not_count() -> None:
    clock = clock_at(100.0, 100.5, 1100.5, 1101.0)
    assert clock.now() == 100.5
    assert clock.now() == 100.5 + MOST_SECONDS, "a thousand seconds asleep"
    assert clock.now() == 101.0 + MOST_SECONDS
