"""A worker without Ray: the same class, called directly."""

from __future__ import annotations

import functools
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.inputs.identities import image_id_of, unread_id
from cluster.inputs.source_check import SourceGone
from cluster.run.leases import Lease
from cluster.run.ledger import Ledger
from cluster.storage.store import open_store
from cluster.worker.messages import Orders, Report
from cluster.worker.worker import Worker
from originality.contract.scorer import Finished
from tests.support.mean_colour import BREAKS, NOT_JSON, REFUSED, MeanColour, paint
from tests.support.plain_worker import lease_all, task, work
from tests.support.waiting import PATIENCE

MANY = 600
"""Steps of an image that is not done before a test stops it."""


def settle(tmp_path: Path, leases: list[Lease]) -> dict[str, dict[str, Any]]:
    """Returns the records by path, once all leases are settled. Returned inputs are leased again, for a last
    read if they could not be read."""
    worker = Worker(task(tmp_path))
    image_ids: dict[int, str] = {}
    again: list[Lease] = []

    def settled(report: Report) -> bool:
        image_ids.update({number: image_id for number, image_id, *_ in report.settled})
        for returned in report.returned:
            last = bool(returned.unread_as)
            again.extend(
                replace(leases[n], causes=() if last else (returned.cause,), last_read=last)
                for n in returned.numbers
            )
        return len(image_ids) + len(again) == len(leases)

    work(worker, leases, settled)
    second, again = again, []
    work(worker, second, settled)
    worker.stop(PATIENCE)
    ledger = Ledger(open_store(str(tmp_path / "run")))
    return {Path(lease.uri).name: ledger.record(image_ids[lease.number]) for lease in leases}


def test_every_image_ends_as_a_record(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for i in range(5):
        paint(folder, f"{i}.png", (i, 0, i))
    paint(folder, "refused.png", REFUSED)
    paint(folder, "nan.png", NOT_JSON)
    (folder / "text.png").write_text("no image")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:45])
    paint(folder, "gone.png", (7, 7, 7))
    paint(folder, "changed.png", (8, 8, 8))
    leases = lease_all(folder)
    (folder / "gone.png").unlink()
    paint(folder, "changed.png", (9, 9, 9))
    records = settle(tmp_path, list(leases.values()))
    assert records["3.png"]["mean"] == [3, 0, 3]
    assert records["3.png"]["model"] == "colour" and records["3.png"]["attempts"] == 1
    ends = {path: (r["status"], r.get("error_class")) for path, r in records.items()}
    assert ends == {
        **{f"{i}.png": ("judged", None) for i in range(5)},
        "refused.png": ("failed", "ValueError"),
        "nan.png": ("failed", "BadRecord"),
        "text.png": ("rejected", "not-an-image"),
        "cut.png": ("rejected", "truncated"),
        "gone.png": ("failed", "missing"),
        "changed.png": ("judged", None),  # as what it is now
    }
    assert records["changed.png"]["mean"] == [9, 9, 9]
    assert records["gone.png"]["image_id"] == unread_id(leases["gone.png"].uri)
    image_id = image_id_of((folder / "3.png").read_bytes())
    (artefact,) = (tmp_path / "run" / "images" / image_id).glob("*/mean.txt")
    assert artefact.read_text() == "[3, 0, 3]"


def test_an_image_whose_decoder_dies_is_rejected_at_the_second_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first it is returned, as a machine that is out of memory kills decoders too. A program that ends
    at its first image stands for the decoder."""
    dies = tmp_path / "dies"
    dies.write_text("#!/bin/sh\nprintf ready; head -c 8 > /dev/null\n")
    dies.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dies))
    path = paint(tmp_path / "in", "a.png", (1, 1, 1))
    (lease,) = lease_all(tmp_path / "in").values()
    ledger, image_id = Ledger(open_store(str(tmp_path / "run"))), image_id_of(path.read_bytes())
    worker = Worker(task(tmp_path))
    (*_, report) = work(worker, [lease], lambda r: bool(r.returned or r.settled))
    (returned,) = report.returned
    assert returned.numbers == [lease.number] and not returned.of_machine
    assert returned.cause.startswith("decoder-crashed: two ")
    assert not ledger.has_record(image_id)
    again = replace(lease, causes=(returned.cause,))
    (*_, report) = work(worker, [again], lambda r: bool(r.returned or r.settled))
    worker.stop(PATIENCE)
    assert [settled[:4] for settled in report.settled] == [(0, image_id, "rejected", "decoder-crashed")]
    assert ledger.record(image_id)["attempts"] == 2


def test_unreadable_inputs_are_returned_until_the_last_attempt(tmp_path: Path) -> None:
    """A different machine may be able to read it. If the collection itself is gone, the worker ends, and
    nothing is recorded of its images."""
    folder = tmp_path / "in"
    for name in ("there.png", "gone.png"):
        paint(folder, name, (1, 1, 1))
    leases = lease_all(folder)
    (folder / "gone.png").unlink()
    worker = Worker(replace(task(tmp_path), source=str(folder)))
    reports = work(worker, list(leases.values()), lambda r: bool(r.settled))
    (returned,) = [returned for report in reports for returned in report.returned]
    assert (returned.numbers, returned.unread_as) == ([leases["gone.png"].number], "missing")
    assert [n for report in reports for n in report.read] == [leases["there.png"].number]
    (*_, report) = work(worker, [replace(leases["gone.png"], last_read=True)], lambda r: bool(r.settled))
    assert [settled.error_class for settled in report.settled] == ["missing"]
    worker.stop(PATIENCE)
    worker = Worker(replace(task(tmp_path), source=str(folder)))
    (folder / "there.png").unlink()
    with pytest.raises(SourceGone, match="in is empty on"):
        work(worker, list(leases.values()), lambda r: False)


class Together(MeanColour):
    """Does nothing until it has held two images at once."""

    both = False

    def step(self) -> list[Finished]:
        Together.both |= len(self._in_flight) == 2
        return super().step() if Together.both else []


def test_a_scorer_that_breaks_hands_back_all_but_a_single_culprit(tmp_path: Path) -> None:
    paint(tmp_path / "in", "good.png", (1, 1, 1))
    paint(tmp_path / "in", "bad.png", BREAKS)
    leases = lease_all(tmp_path / "in")
    worker = Worker(task(tmp_path, Together))
    both = list(leases.values())
    identified = worker.poll(Orders(both)).identified
    while len(identified) < 2:
        identified += worker.poll(Orders(), 0.1).identified
    worker.poll(Orders(go=[number for number, _ in identified]))
    (report,) = [r for r in work(worker, [], lambda r: bool(r.returned)) if r.returned]
    (returned,) = report.returned
    assert sorted(returned.numbers) == [lease.number for lease in both]
    assert "RuntimeError: green broke me" in returned.cause
    again = replace(leases["bad.png"], causes=(returned.cause,))
    (report,) = [r for r in work(worker, [again], lambda r: bool(r.settled)) if r.settled]
    ((number, image_id, status, *_),) = report.settled
    assert (number, status) == (leases["bad.png"].number, "failed")
    work(worker, [leases["good.png"]], lambda r: bool(r.settled))
    worker.stop(PATIENCE)
    record = Ledger(open_store(str(tmp_path / "run"))).record(image_id)
    assert (record["error_class"], record["error_message"]) == ("RuntimeError", "green broke me")


def test_existing_records_are_reported_and_not_judged_again(tmp_path: Path) -> None:
    path = paint(tmp_path / "in", "a.png", (1, 1, 1))
    (lease,) = lease_all(tmp_path / "in").values()
    image_id = image_id_of(path.read_bytes())
    Ledger(open_store(str(tmp_path / "run"))).commit(image_id, {"status": "failed"}, {})
    worker = Worker(task(tmp_path))
    (*_, report) = work(worker, [lease], lambda r: bool(r.settled))
    worker.stop(PATIENCE)
    assert [s[:3] for s in report.settled] == [(0, image_id, "failed")] and report.duplicates == 0


def test_a_late_duplicate_is_dropped_and_counted(tmp_path: Path) -> None:
    path = paint(tmp_path / "in", "a.png", (1, 1, 1))
    (lease,) = lease_all(tmp_path / "in").values()
    image_id = image_id_of(path.read_bytes())
    go = threading.Event()

    class Waits(MeanColour):
        def step(self) -> list[Finished]:
            self.progress = "in flight"
            assert go.wait(PATIENCE)
            return super().step()

    worker = Worker(task(tmp_path, Waits))
    work(worker, [lease], lambda r: "in flight" in r.progress)
    ledger = Ledger(open_store(str(tmp_path / "run")))
    assert ledger.commit(image_id, {"status": "judged", "mean": "the first"}, {})
    go.set()
    (*_, report) = work(worker, [], lambda r: bool(r.settled))
    worker.stop(PATIENCE)
    assert [s[:4] for s in report.settled] == [(0, image_id, "judged", None)] and report.duplicates == 1
    assert ledger.record(image_id)["mean"] == "the first"


def snapshots(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "run").glob("progress/*.snapshot"))


def test_a_stopped_image_resumes_at_its_snapshot(tmp_path: Path) -> None:
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    leases = list(lease_all(tmp_path / "in").values())
    worker = Worker(task(tmp_path, functools.partial(MeanColour, steps=MANY, seconds=0.1)))
    work(worker, leases, lambda r: bool(snapshots(tmp_path)))
    worker.stop(PATIENCE)
    (kept,) = snapshots(tmp_path)
    left = int(kept.read_text())
    assert 0 < left < MANY
    again = Worker(task(tmp_path, functools.partial(MeanColour, steps=MANY)))
    (*_, report) = work(again, leases, lambda r: bool(r.settled))
    again.stop(PATIENCE)
    assert [settled.status for settled in report.settled] == ["judged"]
    assert snapshots(tmp_path) == []


def test_snapshots_are_periodic_and_damaged_ones_skipped(tmp_path: Path) -> None:
    path = paint(tmp_path / "in", "a.png", (1, 1, 1))
    leases = list(lease_all(tmp_path / "in").values())
    kept = tmp_path / "run" / "progress" / f"{image_id_of(path.read_bytes())}.snapshot"
    kept.parent.mkdir(parents=True)
    kept.write_text("rubbish")

    worker = Worker(task(tmp_path, functools.partial(NoStages, steps=MANY, seconds=0.1), snapshot_every=0.5))
    work(worker, leases, lambda r: kept.read_text() != "rubbish")
    first = int(kept.read_text())
    assert 0 < first < MANY  # from the beginning
    work(worker, [], lambda r: int(kept.read_text()) < first)
    worker.stop(PATIENCE)


class NoStages(MeanColour):
    def stage(self, item_id: str) -> int:
        return 0


def test_an_image_that_duplicates_a_different_input_is_dropped(tmp_path: Path) -> None:
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    paint(tmp_path / "in", "b.png", (2, 2, 2))
    leases = list(lease_all(tmp_path / "in").values())
    worker = Worker(task(tmp_path))
    reports = [worker.poll(Orders(leases))]
    give_up = time.monotonic() + PATIENCE
    while sum(len(r.identified) for r in reports) < 2:
        assert time.monotonic() < give_up
        time.sleep(0.02)
        reports.append(worker.poll(Orders()))
    assert not any(r.settled for r in reports)  # nothing is judged without the driver's word
    worker.poll(Orders(go=[1], drop=[0]))
    (*_, report) = work(worker, [], lambda r: bool(r.settled))
    worker.stop(PATIENCE)
    assert [settled.number for settled in report.settled] == [1]


def test_a_factory_that_fails_is_reported(tmp_path: Path) -> None:
    def factory() -> Any:
        raise LookupError("no such model")

    (tmp_path / "in").mkdir()
    worker = Worker(task(tmp_path, factory))
    with pytest.raises(LookupError, match="no such model"):
        work(worker, [], lambda r: False)


class Card(MeanColour):
    """A GPU that fails on some colours: when they are admitted, or in a step."""

    def admit(self, item: Any) -> None:
        if np.asarray(item.content)[0, 0].tolist() == [9, 0, 0]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with ...")
        super().admit(item)

    def step(self) -> list[Any]:
        if any(np.asarray(item.content)[0, 0].tolist() == [0, 9, 0] for item, _ in self._in_flight.values()):
            raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
        return super().step()


def test_a_gpu_error_ends_the_worker_and_loses_no_image(tmp_path: Path) -> None:
    """Also with one image alone, at the first error: nothing is recorded, and no scorer is built again."""
    folder = tmp_path / "in"
    paint(folder, "0.png", (1, 1, 1))
    paint(folder, "1-admitted.png", (9, 0, 0))
    paint(folder, "2-stepped.png", (0, 9, 0))
    beside, admitted, stepped = lease_all(folder).values()
    built: list[int] = []

    def factory() -> Card:
        built.append(1)
        return Card(capacity=2, steps=1000, seconds=0.01)

    for first, guilty in ((beside, admitted), (None, stepped)):
        built.clear()
        worker = Worker(task(tmp_path, factory))
        if first is not None:
            work(worker, [first], lambda r: "in flight" in r.progress)
        reports = work(worker, [guilty], lambda r: r.drained)
        (returned,) = [returned for r in reports for returned in r.returned]
        assert returned.numbers == [guilty.number] and "\n" not in returned.cause
        assert reports[-1].failed and reports[-1].leaving == returned.cause
        assert not any(r.settled for r in reports) and len(built) == 1
        assert len(snapshots(tmp_path)) == 1  # of the neighbour, which resumes elsewhere
        worker.stop(PATIENCE)
    assert not list((tmp_path / "run").glob("records/*/*.json"))


@pytest.mark.parametrize(
    ("error", "ends"),
    [(MemoryError(), True), (OSError(28, "No space left on device"), True), (KeyError("x"), False)],
)
def test_a_factory_that_this_machine_fails_is_no_mistake_in_the_settings(
    tmp_path: Path, error: Exception, ends: bool
) -> None:
    def factory() -> Any:
        raise error

    worker = Worker(task(tmp_path, factory))
    if ends:
        report = work(worker, [], lambda r: r.drained)[-1]
        assert report.failed and report.capacity == 0 and str(report.leaving).startswith(type(error).__name__)
    else:
        with pytest.raises(KeyError):
            work(worker, [], lambda r: False)
    worker.fetcher.close()
