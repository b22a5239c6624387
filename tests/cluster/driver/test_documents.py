"""Items that are documents: they are read and leased as images are, and hours of work are not lost."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.inputs.listing import documents
from cluster.inputs.manifest import InputError
from cluster.run.folder import RunFolder
from cluster.run.leases import Lease
from cluster.run.ledger import Ledger
from cluster.storage.store import open_store
from cluster.worker.messages import Orders, Task
from cluster.worker.readers import DocumentReader
from cluster.worker.worker import Worker
from originality.contract.scorer import Finished
from tests.support.counting_scorer import Counter
from tests.support.waiting import PATIENCE


def leases(tmp_path: Path, **contents: Any) -> list[Lease]:
    folder = tmp_path / "items"
    folder.mkdir()
    for name, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    manifest = documents(str(folder))
    return [Lease(n, manifest.uri(n), manifest.size(n)) for n in range(len(manifest))]


def ends(tmp_path: Path, given: list[Lease], factory: Any, **more: Any) -> list[dict[str, Any]]:
    """Has a new worker settle all leases; their records."""
    task = Task(
        str(tmp_path / "run"),
        factory,
        {},
        reader=DocumentReader,
        retry_failed=False,
        keep_snapshot_of_failed=True,
        **more,
    )
    worker = Worker(task)
    settled: dict[int, str] = {}
    report = worker.poll(Orders(given))
    give_up = time.monotonic() + PATIENCE
    while len(settled) < len(given):
        assert time.monotonic() < give_up, report
        report = worker.poll(Orders(go=[number for number, _ in report.identified]), 0.1)
        settled |= {number: image_id for number, image_id, *_ in report.settled}
    worker.stop(PATIENCE)
    ledger = Ledger(open_store(str(tmp_path / "run")))
    return [ledger.record(settled[lease.number]) for lease in given]


def test_documents_are_read_and_others_rejected(tmp_path: Path) -> None:
    given = leases(tmp_path, a={"to": 3, "breaks": "/nowhere"}, b="[1, 2]", c="{", d="")
    good, *bad = ends(tmp_path, given, Counter)
    assert good["status"] == "judged" and good["from"] == 0
    assert [(r["status"], r["error_class"]) for r in bad] == [("rejected", "corrupt")] * 3
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("")
    with pytest.raises(InputError, match=r"\.json"):
        documents(str(tmp_path / "other"))


def test_long_work_that_failed_resumes_when_it_is_queued_again(tmp_path: Path) -> None:
    breaks = tmp_path / "breaks"
    breaks.write_text("200")
    given = leases(tmp_path, a={"to": 300, "breaks": str(breaks)})
    (failed,) = ends(tmp_path, given, Counter, snapshot_every=0.05)
    assert failed["status"] == "failed" and failed["error_message"] == "it broke"
    run = RunFolder(open_store(str(tmp_path / "run")))
    run.clear_snapshots(of_failed=False)
    assert len(list(run.store.list("progress"))) == 1
    run.ledger.queue_again(lambda row: "any" if row["status"] == "failed" else None, ["status"], {})
    breaks.unlink()
    (judged,) = ends(tmp_path, given, Counter)
    assert judged["status"] == "judged" and judged["from"] > 20
    run.clear_snapshots(of_failed=False)
    assert not list(run.store.list("progress"))


class Clocked(Counter):
    """Has its own clock, by which a step takes 50 ms and a snapshot 0.2 s."""

    now = 0.0
    snapshots = 0

    def step(self) -> list[Finished]:
        Clocked.now += 0.05
        return super().step()

    def snapshot(self, item_id: str) -> bytes:
        Clocked.now += 0.2
        Clocked.snapshots += 1
        return super().snapshot(item_id)


def test_snapshots_take_no_more_than_a_twentieth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.worker.snapshots.time", SimpleNamespace(monotonic=lambda: Clocked.now))
    given = leases(tmp_path, a={"to": 200, "breaks": "/nowhere"})
    ends(tmp_path, given, Clocked, snapshot_every=0.01)
    # The first after 50 ms; each takes 0.2 s, so the next ones come after 4 s more, in 10 s of steps.
    assert Clocked.snapshots == 3
