"""The audit's rows: their columns, and what they amount to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.runfolder import RunFolder
from originality.settings import AuditSettings
from originality.verdict import Verdict

ATTEMPT = pa.struct(
    [
        ("tokens", pa.int32()),
        ("distance_mean", pa.float64()),
        ("distance_sem", pa.float64()),
        ("redraws", pa.int32()),
        ("editability", pa.float64()),
        ("editable", pa.bool_()),
        ("passed", pa.bool_()),
        ("inversion_steps", pa.int32()),
        ("skipped_steps", pa.int32()),
        ("unet_samples", pa.int64()),
        ("seconds", pa.float64()),
        ("failure", pa.string()),
    ]
)

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("status", pa.string()),
        ("min_tokens", pa.int32()),
        ("censored", pa.bool_()),
        ("max_tokens", pa.int32()),
        ("sweep", pa.list_(ATTEMPT)),
        ("model", pa.string()),
        ("settings_digest", pa.string()),
        ("initial_word", pa.string()),
        ("edit_subject", pa.string()),
        ("error_class", pa.string()),
        ("error_message", pa.string()),
        ("note", pa.string()),
        ("artefacts", pa.string()),
        ("attempts", pa.int32()),
        ("worker", pa.string()),
        ("finished_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""Columns of verdicts/*.parquet: originality.verdict.Verdict."""


def blank(settings: AuditSettings) -> dict[str, Any]:
    """What stands in every row of this audit, judged or not."""
    verdict = Verdict(
        image_id="",
        status="failed",
        max_tokens=settings.max_tokens,
        model=settings.model.path,
        settings_digest=settings.digest(),
    )
    return verdict.row()


def min_tokens_text(row: Mapping[str, Any]) -> str:
    """Min tokens as people write it: "+" for never, "-" for not judged."""
    if row["status"] != "judged":
        return "-"
    return "+" if row["censored"] else str(row["min_tokens"])


def summarise(run: RunFolder) -> dict[str, Any]:
    """Counts: summary.json. ``images`` are distinct ones, as far as inputs were read; ``pending`` are inputs
    whose image has no row yet."""
    statuses: Counter[str] = Counter()
    fewest: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    rows: list[str] = []
    for row in run.ledger.rows(["image_id", "status", "censored", "min_tokens", "error_class", "note"]):
        rows.append(row["image_id"])
        statuses[row["status"]] += 1
        if row["status"] == "judged" and "min_tokens" in row:
            fewest["censored" if row["censored"] else str(row["min_tokens"])] += 1
        if row.get("error_class"):
            errors[row["error_class"]] += 1
        if row.get("note"):
            notes[row["note"]] += 1
    ids = run.identities.image_ids()
    with_row = pc.is_in(ids, pa.array(rows, pa.string())) if rows else pa.array([], pa.bool_())
    return {
        "inputs": len(run.manifest),
        "skipped_files": run.manifest.skipped,
        "skipped_kinds": dict(run.manifest.skipped_kinds),
        "images": pc.count_distinct(ids).as_py(),
        "judged": statuses["judged"],
        "rejected": statuses["rejected"],
        "failed": statuses["failed"],
        "pending": len(run.manifest) - (pc.sum(with_row).as_py() or 0),
        "min_tokens": dict(sorted(fewest.items())),
        "errors": dict(sorted(errors.items())),
        "notes": dict(sorted(notes.items())),
        "model": run.description.get("model"),
        "settings_digest": run.description.get("settings_digest"),
    }
