"""The results of a run as one table.

It has a row for each input, with the columns of its list and those of its image's verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.run.folder import RunFolder
from jobs.auditing.verdict_table import SCHEMA

_BATCH = 10_000
"""Rows that are held as Python objects at once."""
_INPUTS = 50_000
"""Inputs of one table."""
PENDING = "pending"
"""Status of an input without a verdict."""


def verdicts_table(run: RunFolder) -> pa.Table:
    """One row for each image that has a record, with the columns of ``verdicts/*.parquet``."""
    rows = ({**row, "finished_at": _time(row.get("finished_at"))} for row in run.ledger.rows())
    batches = []
    while batch := list(islice(rows, _BATCH)):
        batches.append(pa.RecordBatch.from_pylist(batch, SCHEMA))
    return pa.Table.from_batches(batches, SCHEMA)


def inputs_table(run: RunFolder, numbers: np.ndarray | None = None) -> pa.Table:
    """One row for each input, in the order of the manifest: number, uri, bytes, image_id (null while it is
    unknown), and what its list says of it.

    Args:
        numbers: of the inputs; None: all.
    """
    if numbers is None:
        numbers = np.arange(len(run.manifest))
    place = pa.array(numbers, pa.int64())
    listed = run.manifest.table.select(["uri", "bytes"]).take(place)
    ids = pa.array((run.identities[int(number)] for number in numbers), pa.string())
    table = pa.table({"number": place, "uri": listed["uri"], "bytes": listed["bytes"], "image_id": ids})
    extra = run.manifest.listed(numbers)
    for name in extra.column_names:
        table = table.append_column(name, extra[name])
    return table


def results_tables(run: RunFolder) -> Iterator[pa.Table]:
    """The results in the order of the manifest, in parts of some thousand inputs.

    A list's column that has the name of a verdict's column gets the prefix ``list_``. An input without a
    verdict has the status "pending", and null in all other columns of verdicts.
    """
    verdicts = verdicts_table(run)
    known = verdicts["image_id"].combine_chunks()
    of_verdicts = [name for name in SCHEMA.names if name != "image_id"]
    for start in range(0, len(run.manifest), _INPUTS):
        numbers = np.arange(start, min(start + _INPUTS, len(run.manifest)))
        table = inputs_table(run, numbers)
        table = table.rename_columns(distinct_names(table.column_names, of_verdicts))
        found = verdicts.take(pc.index_in(table["image_id"].combine_chunks(), value_set=known))
        for name in of_verdicts:
            values = found[name]
            table = table.append_column(name, pc.fill_null(values, PENDING) if name == "status" else values)
        yield table


def distinct_names(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names of columns, with a prefix where another table has the name, and all different."""
    found: list[str] = []
    for name in names:
        new = f"list_{name}" if name in taken else name
        while new in found or (new != name and new in names):
            new += "_"
        found.append(new)
    return found


def _time(text: Any) -> datetime | None:
    """Of a row, which holds times as ISO 8601 text."""
    return None if text is None else datetime.fromisoformat(text)
