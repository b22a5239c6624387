"""The writer of a worker's records and snapshots."""

from __future__ import annotations

import threading

from cluster.run.layout import snapshot_path
from cluster.run.ledger import Ledger
from cluster.storage.store import open_store
from cluster.worker.metrics import Metrics
from cluster.worker.record_writer import RecordWriter
from tests.support.waiting import PATIENCE


def test_the_snapshot_of_an_image_judged_elsewhere_is_removed() -> None:
    """As with a worker that was suspended, and wakes when the run is over."""
    ledger = Ledger(open_store("memory://"))
    writer = RecordWriter({}, "worker", Metrics(), threading.Event())
    writer.save_snapshot("aa", b"half done")
    writer.save_snapshot("bb", b"half done")
    ledger.commit("aa", {"status": "judged"}, {})
    writer.start(ledger)
    writer.close(PATIENCE)
    assert [found.path for found in ledger.store.list("progress")] == [snapshot_path("bb")]
