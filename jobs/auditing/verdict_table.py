"""Rows of an audit: their columns, and the counts of summary.json."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from cluster.run.folder import RunFolder
from originality.evaluation.verdict import Verdict
from originality.settings.audit import AuditSettings

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
        ("distances", pa.list_(pa.float64())),
        ("edit_hits", pa.list_(pa.bool_())),
        ("pass_probability", pa.float64()),
    ]
)

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("status", pa.string()),
        ("min_tokens", pa.int32()),
        ("censored", pa.bool_()),
        ("max_tokens", pa.int32()),
        ("score", pa.float64()),
        ("score_low", pa.float64()),
        ("score_high", pa.float64()),
        ("confidence", pa.float64()),
        ("redrawn_at", pa.int32()),
        ("in_distribution_at", pa.int32()),
        ("reference_distance", pa.float64()),
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
"""Columns of verdicts/*.parquet: originality.evaluation.verdict.Verdict."""


def blank(settings: AuditSettings) -> dict[str, Any]:
    """The values that every row of this audit has, whether judged or not."""
    verdict = Verdict(
        image_id="",
        status="failed",
        max_tokens=settings.max_tokens,
        model=settings.model.path,
        settings_digest=settings.digest(),
    )
    return verdict.row()


def min_tokens_text(row: Mapping[str, Any]) -> str:
    """Min tokens for people: the number, "+" if censored, "-" if not judged."""
    if row["status"] != "judged":
        return "-"
    return "+" if row["censored"] else str(row["min_tokens"])


def summarise(run: RunFolder) -> dict[str, Any]:
    """Counts of a run: the content of summary.json.

    ``images`` counts distinct images among the inputs read so far; ``pending`` counts inputs whose image has
    no row yet. Rows of images that no input has any more are not counted. ``mean_score`` and
    ``median_confidence`` are of the judged images whose row has them, and null if none has;
    ``reference_rank_correlation`` is that of ``reference_distance`` and ``score``. ``damaged`` lists
    the files that could not be read for these counts.
    """
    rows = _rows(run)
    ids = run.identities.image_ids()
    with_row = pc.sum(pc.is_in(ids, rows["image_id"].combine_chunks())).as_py() or 0
    rows = rows.filter(pc.is_in(rows["image_id"], ids))
    statuses = _counts(rows["status"])
    return {
        "inputs": len(run.manifest),
        "skipped_files": run.manifest.skipped,
        "skipped_kinds": dict(run.manifest.skipped_kinds),
        "images": pc.count_distinct(ids).as_py(),
        "judged": statuses.get("judged", 0),
        "rejected": statuses.get("rejected", 0),
        "failed": statuses.get("failed", 0),
        "pending": len(run.manifest) - with_row,
        "min_tokens": _counts(rows["fewest"]),
        "redrawn_at": _counts(rows["redrawn"]),
        "mean_score": pc.mean(rows["score"]).as_py(),
        "median_confidence": _median(rows["confidence"]),
        "reference_rank_correlation": _rank_correlation(rows["reference_distance"], rows["score"]),
        "errors": _counts(rows["error_class"]),
        "notes": _counts(rows["note"]),
        "model": run.description.get("model"),
        "settings_digest": run.description.get("settings_digest"),
        "damaged": run.damage.paths,
    }


_COUNTED = pa.schema(
    [(name, pa.string()) for name in ("image_id", "status", "fewest", "redrawn", "error_class", "note")]
    + [(name, pa.float64()) for name in ("score", "confidence", "reference_distance")]
)
_READ = (
    *("status", "censored", "min_tokens", "redrawn_at", "score", "confidence", "reference_distance"),
    *("error_class", "note"),
)
"""Columns of a row that the counts need, beside its image_id."""
_BATCH = 10_000
"""Rows held as Python objects at once. Python objects take far more memory than Arrow columns."""


def _rows(run: RunFolder) -> pa.Table:
    """The columns that are counted, of every row."""
    rows = run.ledger.rows(["image_id", *_READ])
    batches = []
    while batch := [{**row, **_keys(row)} for row in islice(rows, _BATCH)]:
        batches.append(pa.RecordBatch.from_pylist(batch, _COUNTED))
    return pa.Table.from_batches(batches, _COUNTED)


def _keys(row: Mapping[str, Any]) -> dict[str, str | None]:
    """What a row is counted under: by min tokens, and by the first number of tokens that redraws it."""
    known = row.get("confidence") is not None
    redrawn = str(row.get("redrawn_at") or "never") if known else None
    return {"fewest": _min_tokens_key(row), "redrawn": redrawn}


def _min_tokens_key(row: Mapping[str, Any]) -> str | None:
    if row["status"] != "judged" or "min_tokens" not in row:
        return None
    return "censored" if row.get("censored") else str(row["min_tokens"])


def _median(column: pa.ChunkedArray) -> float | None:
    return None if column.null_count == len(column) else float(np.median(column.drop_null()))


def _rank_correlation(one: pa.ChunkedArray, other: pa.ChunkedArray) -> float | None:
    """Spearman's, of the rows that have both; None with fewer than three, or where either has one value."""
    both = pc.and_(pc.is_valid(one), pc.is_valid(other))
    x, y = (column.filter(both).to_numpy() for column in (one, other))
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(stats.spearmanr(x, y).statistic)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Number of occurrences of each non-empty value, sorted by value."""
    counted = {found["values"]: found["counts"] for found in column.value_counts().to_pylist()}
    return {value: counted[value] for value in sorted(filter(None, counted))}
