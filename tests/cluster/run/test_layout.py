"""Paths of a run folder, as runs of earlier versions have them: none of them may ever change."""

from __future__ import annotations

import pytest

from cluster.run import layout

ID = "0123ab"


@pytest.mark.parametrize(
    ("path", "written"),
    [
        (layout.RUN_FILE, "run.json"),
        (layout.MANIFEST_FILE, "manifest.parquet"),
        (layout.SUMMARY_FILE, "summary.json"),
        (layout.REPORT_PAGE, "report/index.html"),
        (layout.REPORT_DATA, "report/data"),
        (layout.DRIVERS, "progress/drivers"),
        (layout.COMPACTING_LOCK, "progress/compacting"),
        (layout.SUMMARY_LOCK, "progress/summing"),
        (layout.REPORT_LOCK, "progress/reporting"),
        (layout.item_path("plan.json"), "items/plan.json"),
        (layout.inputs_part_path(1, "00ff", 2), "inputs/part-000001-00ff-00002.parquet"),
        (layout.record_path(ID), "records/ab/0123ab.json"),
        (layout.record_path(ID, 3), "records/ab/0123ab.3.json"),
        (layout.verdicts_part_path(2, "0123456789abcdef01"), "verdicts/part-000002-0123456789abcdef.parquet"),
        (layout.retry_path(1), "retries/000001.json"),
        (layout.sample_path(1), "samples/000001.json"),
        (layout.artefacts_folder(ID), "images/0123ab"),
        (layout.artefacts_folder(ID, "00ff"), "images/0123ab/00ff"),
        (layout.snapshot_path(ID), "progress/0123ab.snapshot"),
        (layout.shard_listing_path("00ff"), "progress/shards/00ff.parquet"),
    ],
)
def test_no_path_changes(path: str, written: str) -> None:
    assert path == written


def test_numbers_and_ids_are_read_from_paths() -> None:
    assert layout.inputs_part_sequence(layout.inputs_part_path(7, "00ff", 2)) == 7
    assert layout.inputs_part_sequence("inputs/part-20260101T000000-1.parquet") == 0
    assert layout.verdicts_part_retries(layout.verdicts_part_path(7, "ab" * 32)) == 7
    assert layout.verdicts_part_retries("verdicts/part-0123456789abcdef.parquet") == 0
    assert layout.retry_number(layout.retry_path(7)) == 7
    assert layout.retry_number("retries/2026-01-01.json") is None
    assert layout.snapshot_image_id(layout.snapshot_path(ID)) == ID
    assert layout.snapshot_image_id("progress/drivers/0001.claim.json") is None
    assert layout.snapshot_image_id(layout.shard_listing_path("00ff")) is None
