"""Export the results of a run as one table: a row for each input, with its list's columns and its verdict.

``originality export RUN --to results.parquet``, or ``python -m jobs.export RUN --to results.csv``. In a CSV
the sweep is JSON text, and a text that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.run.folder import open_run
from cluster.storage.store import absolute, open_store
from jobs.auditing.damaged import warn_of_damage
from jobs.auditing.results_table import results_tables
from jobs.commandline import exits
from originality.contract.config import SettingsError

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters with which spreadsheets begin a formula, or skip to one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("output", metavar="RUN", help="run folder of an audit")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FILE",
        help="file or object to write; it ends in .parquet, .csv or .jsonl",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    folder = open_run(arguments.output)
    target = absolute(arguments.to)
    place, _, name = target.rpartition("/")
    write = next((write for ending, write in _FORMATS.items() if name.lower().endswith(ending)), None)
    if write is None:
        raise SettingsError(
            f"--to {arguments.to}: end the name in {', '.join(_FORMATS)}, which is the format"
        )
    data = write(results_tables(folder))
    open_store(place or "/").write(name, data)
    warn_of_damage(folder)
    print(target)
    return exits.ALL_JUDGED


def _parquet(tables: Iterator[pa.Table]) -> bytes:
    sink = io.BytesIO()
    first = next(tables)
    with pq.ParquetWriter(sink, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table.cast(first.schema))
    return sink.getvalue()


def _csv(tables: Iterator[pa.Table]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for k, table in enumerate(tables):
        if not k:
            writer.writerow([_without_formula(name) for name in table.column_names])
        for row in table.to_pylist():
            writer.writerow([_cell(value) for value in row.values()])
    return text.getvalue().encode("utf-8-sig")  # the mark tells Excel the encoding


def _jsonl(tables: Iterator[pa.Table]) -> bytes:
    lines = (
        json.dumps(row, ensure_ascii=False, default=str) for table in tables for row in table.to_pylist()
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _cell(value: Any) -> Any:
    """A value as a CSV has it."""
    if isinstance(value, str):
        return _without_formula(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else value


def _without_formula(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULAS) else text


_FORMATS: dict[str, Callable[[Iterator[pa.Table]], bytes]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _jsonl,
}
"""Writers by the ending of the file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.export``; the exit code."""
    return exits.main("originality export", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
