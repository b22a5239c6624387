"""The rows of a run in a DuckDB file: one for each input, with its list's columns and its image's verdict.

They are copied part by part into a file of this process, so that neither a million rows nor a bucket's answer
has to fit in memory, and every question to them is answered on this machine. Sweeps and pictures stay in the
run folder and are read one image at a time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from cluster.inputs.manifest import LISTED_AS
from cluster.run.folder import RunFolder
from cluster.run.parts import table_of
from cluster.storage.store import Damaged, NotFound, StoreError
from jobs.auditing.report_data import note_invalid_row
from jobs.auditing.results_table import inputs_table
from jobs.auditing.verdict_table import SCHEMA
from jobs.exploring.columns import Schema, kind_of, loadable

_log = logging.getLogger(__name__)

VERDICT = pa.schema(
    [
        field if not pa.types.is_timestamp(field.type) else pa.field(field.name, pa.timestamp("us"))
        for field in SCHEMA
        if field.name not in ("sweep", "model", "settings_digest", "worker")
    ]
)
"""Columns of verdicts that are loaded; times are UTC."""
_INPUTS = 100_000
"""Inputs that are joined with their verdicts at once."""
_BATCH = 10_000
"""Records held as Python objects at once."""
_MEMORY = "1GB"
"""Most memory of DuckDB's; the rest is on the disk."""
_OWN_INPUTS = ("number", "uri", "bytes", "image_id")


class Rows:
    """The rows of a run, as they were when it was opened."""

    def __init__(self, run: RunFolder, folder: Path, against: RunFolder | None = None) -> None:
        """Copy the rows.

        Args:
            run: the run.
            folder: empty; for the copy, and for what does not fit in memory.
            against: a run of the same images to compare it with.
        """
        self._database = duckdb.connect(
            str(folder / "rows.duckdb"),
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "enable_external_access": "false",  # no statement reads another file or the network
                "temp_directory": str(folder / "spill"),
                "memory_limit": _MEMORY,
                "threads": str(min(4, os.cpu_count() or 1)),
            },
        )
        self.compared = against is not None
        """Whether the run is compared with another."""
        with _disk_errors(folder):
            self._load(run, against)
        self.total = len(run.manifest)
        """Number of rows."""
        self.ranges = self._ranges()
        """Lowest and highest value of each column of numbers that has one."""

    def _load(self, run: RunFolder, against: RunFolder | None) -> None:
        self._database.execute("BEGIN")  # one transaction: no log, and no wait for the disk after each part
        self._load_verdicts("verdicts", run)
        if against is not None:
            self._load_verdicts("others", against)
        self.schema = self._load_items(run)
        """The columns."""
        self._database.execute("DROP TABLE verdicts; DROP TABLE IF EXISTS others; COMMIT; CHECKPOINT")
        self._database.execute("SET lock_configuration = true")

    def execute(self, statement: str, values: list[Any]) -> duckdb.DuckDBPyConnection:
        """Run a statement; may be called from several threads at once."""
        return self._database.cursor().execute(statement, values)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _load_verdicts(self, name: str, run: RunFolder) -> None:
        first = VERDICT.empty_table()
        self._database.register("part", first)
        self._database.execute(f"CREATE TABLE {name} AS SELECT * FROM part")
        for table in verdict_tables(run):
            self._database.register("part", table)
            self._database.execute(f"INSERT INTO {name} SELECT * FROM part")
        self._database.unregister("part")

    def _load_items(self, run: RunFolder) -> Schema:
        schema = None
        prefix = f"{run.manifest.source}/" if run.manifest.source else ""
        # One batch even of no inputs, so that the table exists.
        for start in range(0, max(1, len(run.manifest)), _INPUTS):
            numbers = np.arange(start, min(start + _INPUTS, len(run.manifest)))
            table, listed = _input_batch(inputs_table(run, numbers))
            schema = schema or Schema.of(listed, self.compared)
            self._database.register("batch", table)
            select = _joined(schema, listed, self.compared)
            self._database.execute(
                f"{'INSERT INTO items' if start else 'CREATE TABLE items AS'} {select}", {"prefix": prefix}
            )
        self._database.unregister("batch")
        assert schema is not None
        return schema

    def _ranges(self) -> dict[str, tuple[float, float]]:
        numbers = [column for column in self.schema.columns.values() if column.kind == "number"]
        bounds = (f"min({column.sql}), max({column.sql})" for column in numbers)
        finite = self._database.execute(f"SELECT {', '.join(bounds)} FROM items").fetchone() or ()
        pairs = zip(numbers, finite[::2], finite[1::2], strict=True)
        return {
            column.name: (float(low), float(high))
            for column, low, high in pairs
            if low is not None and np.isfinite([float(low), float(high)]).all()
        }


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk into one line with the fix.

    Raises:
        StoreError: the rows cannot be written.
    """
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException) as error:
        reason = str(error).partition("\n")[0]
        raise StoreError(
            f"cannot write the rows to {folder}: {reason}; free space there, or set TMPDIR to a larger disk"
        ) from error


def _joined(schema: Schema, listed: pa.Schema, compared: bool) -> str:
    """The statement that joins a batch of inputs with their verdicts. Its value ``prefix`` is the beginning
    of uris that names leave out."""
    name = "CASE WHEN starts_with(uri, $prefix) THEN substr(uri, length($prefix) + 1) ELSE uri END"
    if LISTED_AS in listed.names:
        name = f"coalesce(listed_{listed.names.index(LISTED_AS)}, {name})"
    texts = [f"listed_{k}" for k, field in enumerate(listed) if kind_of(field.type) == "text"]
    search = f"lower(concat_ws(chr(10), {', '.join(['uri', *texts])}))"
    others = "LEFT JOIN others w ON i.image_id = w.image_id " if compared else ""
    return (
        f"WITH inputs AS (SELECT *, {name} AS name, {search} AS search FROM batch) "
        f"SELECT {schema.selected} FROM inputs i LEFT JOIN verdicts v ON i.image_id = v.image_id "
        f"{others}ORDER BY i.number"
    )


def _input_batch(table: pa.Table) -> tuple[pa.Table, pa.Schema]:
    """Inputs under identifiers of ours, and the schema of what the list adds, under its own names."""
    listed = [name for name in table.column_names if name not in _OWN_INPUTS]
    made = {name: loadable(table[name]) for name in _OWN_INPUTS}
    made |= {f"listed_{k}": loadable(table[name]) for k, name in enumerate(listed)}
    return pa.table(made), pa.schema([table.schema.field(name) for name in listed])


def verdict_tables(run: RunFolder) -> Iterator[pa.Table]:
    """One row for each image that has a record, with the columns of VERDICT, part by part.

    Damaged parts are read from their records instead; damaged records are noted and left out.
    """
    ledger = run.ledger
    view, beside = ledger.counted()
    rest = [beside]
    for part, counts in zip(view.parts, view.counts, strict=True):
        if not counts.any():
            continue
        try:
            yield _as_verdicts(table_of(run.store, part, counts, VERDICT.names))
        except (NotFound, Damaged, pa.ArrowException):
            rest.append(part.ids.filter(pa.array(counts)))
    ids = pa.concat_arrays(rest)
    if len(ids):
        rows = ledger.rows(VERDICT.names, of=ids)
        while batch := list(islice(rows, _BATCH)):
            yield from _tables_of(run, batch)


def _as_verdicts(table: pa.Table) -> pa.Table:
    """A part's table with the columns of VERDICT; those that earlier versions did not write are null."""
    columns = [
        loadable(table[field.name]).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in VERDICT
    ]
    return pa.table(columns, schema=VERDICT)


def _tables_of(run: RunFolder, rows: list[dict[str, Any]]) -> Iterator[pa.Table]:
    """Records as a table; one by one if not all are valid."""
    try:
        yield _as_verdicts(_table(rows))
    except (pa.ArrowException, TypeError, ValueError):
        if len(rows) > 1:
            for row in rows:
                yield from _tables_of(run, [row])
        else:
            note_invalid_row(run, str(rows[0].get("image_id")))


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Records, whose times are ISO 8601 text, as a table."""
    as_text = pa.schema(
        [pa.field("finished_at", pa.string()) if f.name == "finished_at" else f for f in VERDICT]
    )
    table = pa.Table.from_pylist(rows, as_text)
    times = table["finished_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us"))
    return table.set_column(table.schema.get_field_index("finished_at"), VERDICT.field("finished_at"), times)
