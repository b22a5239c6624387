"""Results as one file: Parquet, CSV or lines of JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters with which spreadsheets begin a formula, or skip to one."""


def parquet(tables: Iterator[pa.Table]) -> bytes:
    """The tables as one Parquet file."""
    sink = io.BytesIO()
    first = next(tables)
    with pq.ParquetWriter(sink, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table.cast(first.schema))
    return sink.getvalue()


def comma_separated(tables: Iterator[pa.Table]) -> bytes:
    """The tables as one CSV, in which no cell is a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for k, table in enumerate(tables):
        if not k:
            writer.writerow([without_formula(name) for name in table.column_names])
        for row in table.to_pylist():
            writer.writerow([cell(value) for value in row.values()])
    return text.getvalue().encode("utf-8-sig")  # the mark tells Excel the encoding


def json_lines(tables: Iterator[pa.Table]) -> bytes:
    """The tables as one JSON object a line."""
    return "".join(f"{as_json(row)}\n" for table in tables for row in table.to_pylist()).encode()


def as_json(value: Any) -> str:
    """JSON text; times as ISO 8601."""
    return json.dumps(value, ensure_ascii=False, default=str)


def cell(value: Any) -> Any:
    """A value as a CSV has it."""
    if isinstance(value, str):
        return without_formula(value)
    if isinstance(value, list | dict):
        return as_json(value)
    return "" if value is None else value


def without_formula(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


WRITERS: dict[str, Callable[[Iterator[pa.Table]], bytes]] = {
    ".parquet": parquet,
    ".csv": comma_separated,
    ".jsonl": json_lines,
}
"""Writers by the ending of the file."""
