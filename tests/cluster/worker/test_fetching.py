"""Reading ahead: several inputs at once, within the limit on memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.inputs.locations import Location
from cluster.inputs.sources import read_image
from cluster.worker import fetching, readers
from cluster.worker.fetching import Room
from cluster.worker.messages import Report
from cluster.worker.worker import Worker
from tests.support.mean_colour import paint
from tests.support.plain_worker import lease_all, task, work
from tests.support.waiting import PATIENCE, until

# Private: Room._turn, because no public call tells that a thread waits for room.


def test_an_image_that_comes_slowly_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do three of them."""
    for name in ("0-slow", "1-slow", "2-slow", *(f"{i}" for i in range(3, 9))):
        paint(tmp_path / "in", f"{name}.png", (int(name[0]), 0, 0))
    arrives = threading.Event()

    def slow(uri: str, check: Callable[[int], None], location: Location | None) -> bytes:
        if uri.endswith("-slow.png"):
            assert arrives.wait(PATIENCE)
        return read_image(uri, check, location)

    monkeypatch.setattr(fetching, "read_image", slow)
    worker = Worker(task(tmp_path))
    settled: list[int] = []

    def so_many(most: int) -> Callable[[Report], bool]:
        return lambda report: settled.extend(s.number for s in report.settled) or len(settled) == most  # type: ignore[func-returns-value]

    work(worker, list(lease_all(tmp_path / "in").values()), so_many(6))
    assert sorted(settled) == [3, 4, 5, 6, 7, 8]
    arrives.set()
    work(worker, [], so_many(9))
    worker.stop(PATIENCE)
    assert sorted(settled) == list(range(9))


def test_files_in_hand_have_a_bound_also_where_no_list_says_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [paint(tmp_path / "in", f"{i}.png", (i, 0, 0)).stat().st_size for i in range(6)]
    most = max(sizes) + min(sizes) // 2  # for one, and not for two
    monkeypatch.setattr(fetching, "MAX_BYTES", most)
    in_hand: list[int] = []
    decode = readers.Decoder.decode

    def counted(decoder: readers.Decoder, data: bytes) -> object:
        in_hand.append(worker.fetcher.room.used)
        return decode(decoder, data)

    monkeypatch.setattr(readers.Decoder, "decode", counted)
    worker = Worker(task(tmp_path))
    settled: list[str] = []

    def all_of_them(report: Report) -> bool:
        settled.extend(s.status for s in report.settled)
        return len(settled) == 6

    work(worker, [replace(lease, bytes=None) for lease in lease_all(tmp_path / "in").values()], all_of_them)
    worker.stop(PATIENCE)
    assert settled == ["judged"] * 6
    assert min(sizes) <= min(in_hand) and max(in_hand) <= most


def test_room_is_given_in_turn_and_one_may_always_be_read() -> None:
    room, order = Room(100), []
    first, go = threading.Event(), threading.Event()

    def take(size: int) -> None:
        with room.taken(size):
            order.append(size)
            first.set()
            assert go.wait(PATIENCE)

    threads = [threading.Thread(target=take, args=(size,)) for size in (60, 1000, 1)]
    threads[0].start()
    assert first.wait(PATIENCE)
    threads[1].start()
    until(room._turn.locked)
    threads[2].start()  # there would be room for it, but the other one was first
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [60, 1000, 1] and not room.used
