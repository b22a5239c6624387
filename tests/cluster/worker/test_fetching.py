"""Reading ahead: several inputs at once, within the limit on memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.inputs.identities import image_id_of
from cluster.inputs.locations import Broken, Location
from cluster.inputs.sources import read_image
from cluster.run.leases import Lease
from cluster.run.ledger import Ledger
from cluster.storage.store import open_store
from cluster.worker import fetching, readers
from cluster.worker.fetching import Room
from cluster.worker.messages import Report, Settled
from cluster.worker.worker import Worker
from tests.support.mean_colour import paint
from tests.support.plain_worker import lease_all, task, work
from tests.support.tars import shard
from tests.support.waiting import PATIENCE, until

# Private: Room._turn, because no public call tells that a thread waits for room.


def test_a_slow_image_does_not_delay_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_bytes_read_ahead_are_bounded_even_if_sizes_are_unknown(
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


def test_read_ahead_memory_is_granted_in_order_and_one_read_is_always_allowed() -> None:
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


def test_members_of_a_shard_are_judged_as_the_loose_images_are(tmp_path: Path) -> None:
    """Those of a shard that changed since it was listed fail, and so does what was broken then."""
    data = {f"{i}.png": paint(tmp_path / "loose", f"{i}.png", (i, 0, 0)).read_bytes() for i in range(4)}
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        of_shard = {name: data[name] for name in sorted(data)[2 * number : 2 * number + 2]}
        (folder / f"{number}.tar").write_bytes(shard(of_shard))
    (folder / "2.tar").write_bytes(b"no tar")
    leases = lease_all(folder)
    (folder / "1.tar").write_bytes(shard({"x.png": data["0.png"] * 2, "y.png": data["1.png"]}))
    worker = Worker(task(tmp_path))
    settled: dict[int, Settled] = {}

    def all_of_them(report: Report) -> bool:
        settled.update((s.number, s) for s in report.settled)
        return len(settled) == 5

    work(worker, [replace(lease, last_read=True) for lease in leases.values()], all_of_them)
    worker.stop(PATIENCE)
    ids = {name: settled[lease.number].image_id for name, lease in leases.items()}
    assert ids["0.tar#0.png"] == image_id_of(data["0.png"])
    statuses = {name: settled[lease.number].status for name, lease in leases.items()}
    assert statuses == {
        "0.tar#0.png": "judged",
        "0.tar#1.png": "judged",
        "1.tar#2.png": "failed",
        "1.tar#3.png": "failed",
        "2.tar": "failed",
    }
    ledger = Ledger(open_store(str(tmp_path / "run")))
    records = [ledger.record(ids[name]) for name in ("1.tar#2.png", "2.tar")]
    assert [record["error_class"] for record in records] == ["unreadable", "unreadable"]
    assert "has changed since" in records[0]["error_message"]
    assert records[1]["error_message"].endswith("not a tar file")


def test_inputs_found_broken_when_listed_are_not_tried_on_other_machines(tmp_path: Path) -> None:
    lease = Lease(0, "in/a.tar", location=Broken("in/a.tar", "it ends early"))
    assert lease.file == "in/a.tar" and not lease.last_read
    worker = Worker(task(tmp_path))
    settled: list[str] = []
    work(worker, [lease], lambda report: bool(settled.extend(s.status for s in report.settled) or settled))  # type: ignore[func-returns-value]
    worker.stop(PATIENCE)
    assert settled == ["failed"]
