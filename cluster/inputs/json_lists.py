"""Lists in JSON Lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa

from cluster.inputs.siblings import clean_text, scalar_of
from cluster.inputs.typed_rows import TypedRows

_MOST_COLUMNS = 256
_ROW = pa.schema([("row", pa.int64())])
_MARK = "."
"""Begins the names of fields while they are collected."""


def open_json_lines(data: bytes) -> pa.Table:
    """The objects of a list as a table: a column for each name that any of them has.

    Raises:
        ValueError: it is not UTF-8, a line is not a JSON object, or there are too many columns.
    """
    rows = TypedRows(_ROW, _MOST_COLUMNS)
    for number, line in enumerate(_lines(data), 1):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):  # the message of the first may quote the line's credentials
            fields = None
        if not isinstance(fields, dict):
            raise ValueError(f"row {number} is not a JSON object; write one object a line")
        # The mark keeps a field apart from the table's own column, whatever its name is.
        named = ((f"{_MARK}{clean_text(name)}", value) for name, value in fields.items())
        found = {name: scalar_of(value) for name, value in named if value is not None}
        if rows.add((number,), found):
            raise ValueError(f"it has more than {_MOST_COLUMNS} columns; write fewer")
    table = rows.table()
    table = table.select(range(1, table.num_columns))
    return table.rename_columns([name.removeprefix(_MARK) for name in table.column_names])


def _lines(data: bytes) -> Iterator[str]:
    """The lines that are not blank.

    Raises:
        ValueError: one is not UTF-8.
    """
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    number = 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        number += 1
        try:
            line = data[start:end].decode()
        except UnicodeDecodeError:
            raise ValueError(f"line {number} is not UTF-8 text") from None
        if line.strip():
            yield line
        start = end + 1
