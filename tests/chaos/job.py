"""The audit's way with a cheap scorer: python -m tests.chaos.job INPUT OUTPUT."""

from __future__ import annotations

import sys

import pyarrow as pa

from cluster.manifest import Selection
from cluster.settings import ClusterSettings
from jobs import exits
from jobs.audit import Science, at_work, judge, planned
from originality.presets import load_settings
from tests.chaos.chain import Chain

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("status", pa.string()),
        ("chain", pa.string()),
        ("artefacts", pa.string()),
        ("error_class", pa.string()),
        ("worker", pa.string()),
    ]
)


def audit(source: str, output: str) -> int:
    science = Science(load_settings(flags={"model": {"device": "cpu"}}), Chain, {})
    run = planned(science, source, output)
    how = ClusterSettings(max_workers=2, snapshot_every=0.1, stop_grace=5)
    with at_work(run) as heartbeat:
        judge(science, run, how, Selection(), heartbeat)
        run.clear_snapshots()
        run.ledger.compact(SCHEMA)
    return exits.ALL_JUDGED


if __name__ == "__main__":
    source, output = sys.argv[1:]
    sys.exit(exits.run(lambda: audit(source, output)))
