"""A worker whose scorer, store or disk hangs: it ends, and names the images that it held."""

from __future__ import annotations

import functools
import itertools
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.inputs import local_files
from cluster.inputs.sources import Unreadable, read_image
from cluster.storage import bounds
from cluster.storage.store import Outage
from cluster.worker import worker as worker_module
from cluster.worker.messages import Orders, Report, Task
from cluster.worker.watchdog import Hung, Watchdog
from cluster.worker.worker import Worker
from originality.contract.faults import MachineFault
from originality.contract.scorer import Finished
from tests.support.held_clock import Clock
from tests.support.mean_colour import MeanColour, paint
from tests.support.plain_worker import lease_all, task, work
from tests.support.waiting import PATIENCE

HANGS = (9, 0, 0)


class Hanging(MeanColour):
    """Hangs in one of its methods, with an image of one colour, until it is released."""

    def __init__(self, where: str, clock: Clock, go: threading.Event, capacity: int = 2) -> None:
        super().__init__(capacity=capacity, steps=100_000, seconds=0.01)
        self._where, self._clock, self._go = where, clock, go

    def _hang(self, where: str, *items: Any) -> None:
        if where == self._where and any(np.asarray(i.content)[0, 0].tolist() == list(HANGS) for i in items):
            self._clock.hangs.set()
            assert self._go.wait(PATIENCE)

    def admit(self, item: Any) -> None:
        self._hang("admit", item)
        super().admit(item)

    def restore(self, item: Any, snapshot: bytes) -> None:
        self._hang("restore", item)
        super().restore(item, snapshot)

    def step(self) -> list[Finished]:
        self._hang("step", *(item for item, _ in self._in_flight.values()))
        return super().step()

    def snapshot(self, item_id: str) -> bytes:
        self._hang("snapshot", self._in_flight[item_id][0])
        return super().snapshot(item_id)


@pytest.fixture
def go() -> threading.Event:
    """Releases what hangs."""
    return threading.Event()


@pytest.fixture
def hire(go: threading.Event) -> Iterator[Callable[[Task], Worker]]:
    """Makes workers; ends them, and what hangs, when the test ends."""
    hired: list[Worker] = []

    def hire(task: Task) -> Worker:
        hired.append(Worker(task))
        return hired[-1]

    yield hire
    go.set()
    for worker in hired:
        with suppress(Exception):  # its error is raised again
            worker.stop(PATIENCE)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which a worker measures its scorer's calls."""
    clock = Clock()
    monkeypatch.setattr(worker_module, "Watchdog", functools.partial(Watchdog, clock))
    return clock


@pytest.mark.parametrize(
    ("where", "what", "alone"),
    [
        ("admit", "admitting an image", True),
        ("restore", "admitting an image", True),
        ("step", "a step", False),
        ("snapshot", "taking a snapshot", True),
    ],
)
def test_a_call_that_hangs_names_only_the_images_in_progress(
    tmp_path: Path,
    held: Clock,
    go: threading.Event,
    hire: Callable[[Task], Worker],
    where: str,
    what: str,
    alone: bool,
) -> None:
    paint(tmp_path / "in", "beside.png", (1, 1, 1))
    paint(tmp_path / "in", "hangs.png", HANGS)
    paint(tmp_path / "in", "waits.png", (2, 2, 2))
    beside, hangs, waits = lease_all(tmp_path / "in").values()
    if where == "restore":
        first = hire(task(tmp_path, functools.partial(MeanColour, steps=100_000, seconds=0.01)))
        work(first, [hangs], lambda r: bool(list((tmp_path / "run").glob("progress/*.snapshot"))))
        first.stop(PATIENCE)
    hanging = functools.partial(Hanging, where, held, go)
    worker = hire(replace(task(tmp_path, hanging), step_limit=1000.0))
    work(worker, [beside], lambda r: "in flight" in r.progress)
    work(worker, [hangs], lambda r: held.hangs.is_set())
    with pytest.raises(Hung, match=rf"^{what} .* 1000 s \(cluster\.step_limit\)$") as caught:
        work(worker, [waits], lambda r: False)
    suspects = {hangs.number} if alone else {hangs.number, beside.number}
    assert caught.value.suspects == suspects
    again = pickle.loads(pickle.dumps(caught.value))  # as it reaches the driver
    assert (str(again), again.suspects) == (str(caught.value), suspects)


def test_a_scorer_that_is_built_without_end_is_the_machines(
    tmp_path: Path, held: Clock, go: threading.Event, hire: Callable[[Task], Worker]
) -> None:
    (tmp_path / "in").mkdir()

    def factory() -> Any:
        held.hangs.set()
        assert go.wait(PATIENCE)

    worker = hire(replace(task(tmp_path, factory), load_limit=100.0))
    with pytest.raises(Hung, match=r"^building .* 100 s \(cluster.load_limit\)$") as c:
        work(worker, [], lambda r: False)
    assert not c.value.suspects


class Forgetful(MeanColour):
    """Fails to take a snapshot, at first every time."""

    error: Callable[[], Exception] = lambda: KeyError("momentum")
    able, taken = threading.Event(), threading.Event()

    def snapshot(self, item_id: str) -> bytes:
        if not Forgetful.able.is_set():
            raise Forgetful.error()
        Forgetful.taken.set()
        return super().snapshot(item_id)


def test_an_error_in_a_snapshot_loses_only_the_snapshot(
    tmp_path: Path, hire: Callable[[Task], Worker]
) -> None:
    """It is reported once, and tried again; the image is judged at its first attempt."""
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    paint(tmp_path / "in", "b.png", (2, 2, 2))
    Forgetful.able.clear()
    worker = hire(task(tmp_path, functools.partial(Forgetful, steps=400, seconds=0.001)))
    settled: list[Any] = []

    def both(report: Report) -> bool:
        settled.extend(report.settled)
        return len(settled) == 2

    reports = work(worker, list(lease_all(tmp_path / "in").values()), both)
    notes = [note for report in reports for note in report.notes]
    assert len(notes) == 1 and "KeyError: 'momentum'" in notes[0]
    assert [each.status for each in settled] == ["judged", "judged"]
    assert not any(report.returned for report in reports)
    paint(tmp_path / "more", "c.png", (3, 3, 3))
    Forgetful.able.set()
    work(worker, list(lease_all(tmp_path / "more").values()), lambda r: Forgetful.taken.is_set())


def test_a_card_that_fails_in_a_snapshot_is_still_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hire: Callable[[Task], Worker]
) -> None:
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    Forgetful.able.clear()
    monkeypatch.setattr(Forgetful, "error", lambda: RuntimeError("CUDA error: unspecified launch failure"))
    worker = hire(task(tmp_path, functools.partial(Forgetful, steps=400)))
    reports = work(worker, list(lease_all(tmp_path / "in").values()), lambda r: r.drained)
    assert reports[-1].failed and [back.of_machine for r in reports for back in r.returned] == [True]


def test_a_worker_reports_its_machine_even_if_the_store_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: threading.Event, hire: Callable[[Task], Worker]
) -> None:
    def opens(uri: str) -> Any:
        assert go.wait(PATIENCE)
        raise Outage("no keys")

    monkeypatch.setattr(worker_module, "open_store", opens)
    worker = hire(task(tmp_path))
    report = worker.poll(Orders())
    assert report.capacity == 0 and not report.drained
    go.set()
    with pytest.raises(Outage, match="no keys"):
        work(worker, [], lambda r: False)


def test_a_mount_that_hangs_is_a_machine_fault(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
    go: threading.Event,
    hire: Callable[[Task], Worker],
) -> None:
    """Its worker ends, and no image is to blame; the call that hangs in the kernel is abandoned."""
    paint(tmp_path / "in", "a.png", (1, 1, 1))

    def reads(file: Any) -> bytes:
        clock.hangs.set()
        assert go.wait(PATIENCE)
        return b""

    monkeypatch.setattr(local_files, "read_in_pieces", reads)
    worker = hire(task(tmp_path))
    with pytest.raises(MachineFault, match=r"a\.png: 0 of \d+ bytes arrived in 300 s on .* mount hang\?"):
        work(worker, list(lease_all(tmp_path / "in").values()), lambda r: False)


def test_one_file_that_hangs_beside_others_is_not_its_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: threading.Event
) -> None:
    hangs = paint(tmp_path, "a.png", (1, 1, 1))
    paint(tmp_path, "b.png", (2, 2, 2))
    seconds = itertools.chain(range(0, 400, 10), itertools.repeat(400))  # then no more pass
    monkeypatch.setattr(bounds, "monotonic_clock", lambda: float(next(seconds)))
    monkeypatch.setattr(bounds, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(local_files, "read_in_pieces", lambda file: go.wait(PATIENCE))
    with pytest.raises(Unreadable, match=r"a\.png: 0 of \d+ bytes arrived in 300 s$") as caught:
        read_image(str(hangs), lambda size: None)
    assert caught.value.reason_code == "unreadable"
    go.set()
