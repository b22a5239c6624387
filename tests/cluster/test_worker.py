"""A worker without Ray: the same class, called directly."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mean_colour import BREAKS, NOT_JSON, REFUSED, MeanColour, paint

from cluster.leases import Lease
from cluster.ledger import Ledger
from cluster.manifest import scan
from cluster.store import open_store
from cluster.worker import Report, Task, Worker


def lease_all(folder: Path) -> dict[str, Lease]:
    manifest = scan(str(folder))
    paths = {manifest.path(e): e for e in manifest.images()}
    return {path: Lease(e.image_id, path, e.bytes) for path, e in paths.items()}


def task(tmp_path: Path, factory: Callable[[], Any] = MeanColour) -> Task:
    return Task(str(tmp_path / "run"), str(tmp_path / "in"), factory, {"model": "colour"})


def work(worker: Worker, leases: list[Lease], until: Callable[[Report], bool]) -> list[Report]:
    reports = [worker.poll(leases)]
    give_up = time.monotonic() + 20
    while not until(reports[-1]):
        assert time.monotonic() < give_up, reports[-1]
        time.sleep(0.01)
        reports.append(worker.poll([]))
    return reports


def settle(tmp_path: Path, leases: list[Lease]) -> dict[str, dict[str, Any]]:
    """The records by path, once all leases are settled."""
    worker = Worker(task(tmp_path))
    left = {lease.image_id for lease in leases}

    def settled(report: Report) -> bool:
        left.difference_update(image_id for image_id, _ in report.settled)
        return not left

    work(worker, leases, settled)
    worker.stop(5)
    ledger = Ledger(open_store(str(tmp_path / "run")))
    return {lease.path: ledger.record(lease.image_id) for lease in leases}


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
        "changed.png": ("rejected", "changed"),
    }
    artefact = tmp_path / "run" / "images" / leases["3.png"].image_id / "mean.txt"
    assert artefact.read_text() == "[3, 0, 3]"


def test_a_scorer_that_breaks_hands_back_all_but_a_single_culprit(tmp_path: Path) -> None:
    paint(tmp_path / "in", "good.png", (1, 1, 1))
    paint(tmp_path / "in", "bad.png", BREAKS)
    leases = lease_all(tmp_path / "in")
    worker = Worker(task(tmp_path, functools.partial(MeanColour, seconds=0.2)))
    both = list(leases.values())
    (report,) = [r for r in work(worker, both, lambda r: bool(r.returned)) if r.returned]
    assert set(report.returned) == {lease.image_id for lease in both}
    (report,) = [r for r in work(worker, [leases["bad.png"]], lambda r: bool(r.settled)) if r.settled]
    assert report.settled == [(leases["bad.png"].image_id, "failed")]
    work(worker, [leases["good.png"]], lambda r: bool(r.settled))
    worker.stop(5)
    record = Ledger(open_store(str(tmp_path / "run"))).record(leases["bad.png"].image_id)
    assert (record["error_class"], record["error_message"]) == ("RuntimeError", "green broke me")


def test_a_late_duplicate_tells_the_status_that_counts(tmp_path: Path) -> None:
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    (lease,) = lease_all(tmp_path / "in").values()
    Ledger(open_store(str(tmp_path / "run"))).commit(lease.image_id, {"status": "failed"}, {})
    worker = Worker(task(tmp_path))
    (*_, report) = work(worker, [lease], lambda r: bool(r.settled))
    worker.stop(5)
    assert report.settled == [(lease.image_id, "failed")]


def test_a_factory_that_fails_is_told(tmp_path: Path) -> None:
    def factory() -> Any:
        raise LookupError("no such model")

    (tmp_path / "in").mkdir()
    worker = Worker(task(tmp_path, factory))
    with pytest.raises(LookupError, match="no such model"):
        work(worker, [], lambda r: False)
