"""The same images as collections of every kind get the same records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.run.ledger import Ledger
from cluster.storage.store import open_store
from cluster.worker.messages import Report
from cluster.worker.worker import Worker
from tests.support.driven_run import drive
from tests.support.hub_datasets import HubState
from tests.support.image_tables import hugging_face, parquet
from tests.support.joined_inputs import inputs
from tests.support.mean_colour import paint
from tests.support.plain_worker import lease_all, task, work
from tests.support.same_images import everywhere

SAME = ("image_id", "status", "mean", "min_tokens", "censored")
"""Columns that do not differ between two runs."""


def judged(given: str, folder: Path) -> list[dict[str, Any]]:
    """The records of all inputs, in their order, without what differs between two runs."""
    leases = [replace(lease, last_read=True) for lease in lease_all(given).values()]
    worker = Worker(task(folder))
    settled: dict[int, str] = {}

    def all_of_them(report: Report) -> bool:
        settled.update((one.number, one.image_id) for one in report.settled)
        return len(settled) == len(leases)

    work(worker, leases, all_of_them)
    worker.stop(60)
    ledger = Ledger(open_store(str(folder / "run")))
    records = (ledger.record(settled[lease.number]) for lease in leases)
    return [{name: record[name] for name in SAME} for record in records]


def test_each_kind_of_collection_gives_the_same_records(
    tmp_path: Path, s3: str, dataset_hub: HubState
) -> None:
    given = everywhere(tmp_path / "in", s3, dataset_hub)
    first, *others = [judged(one, tmp_path / str(number)) for number, one in enumerate(given)]
    assert len(first) == 60 and {record["status"] for record in first} == {"judged"}
    assert len(others) == 11 and all(other == first for other in others)


def test_a_run_over_parquet_on_two_workers(tmp_path: Path, local_ray: None) -> None:
    data = [paint(tmp_path / "loose", f"{n:02}.png", (n, n, n)).read_bytes() for n in range(20)]
    (tmp_path / "in").mkdir()
    table = hugging_face([*data, None, b"text"], artist=["a", "b"] * 11)
    (tmp_path / "in" / "0.parquet").write_bytes(parquet(table, row_group_size=6))
    (tmp_path / "in" / "1.parquet").write_bytes(b"PAR1")
    run, counts, _ = drive(tmp_path / "in", tmp_path / "run", workers=2)
    assert counts == {"judged": 20, "failed": 2, "rejected": 1}
    rows = {row["path"]: row for row in inputs(run)}
    assert all(rows[f"0.parquet#{n}"]["mean"] == [n, n, n] for n in range(20))
    assert run.manifest.columns(1)["artist"] == "b"
    classes = [rows[name]["error_class"] for name in ("0.parquet#20", "0.parquet#21", "1.parquet")]
    assert classes == ["missing", "not-an-image", "unreadable"]
