"""Collects rows whose columns become known as they come, in Arrow batches: no Python objects are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import reduce

import pyarrow as pa

Scalar = bool | int | float | str

_BATCH_ROWS, _BATCH_BYTES = 4096, 16 * 2**20
"""Rows, and bytes of their values, that are Python objects at once."""
_MOST_INTEGER = 2**63


class TypedRows:
    """Rows with fixed columns, and others by name. The type of these is the narrowest that holds all values:
    of truth values, integers, numbers or else text."""

    def __init__(self, fixed: pa.Schema, most: int) -> None:
        """
        Args:
            fixed: the columns that every row has.
            most: how many others there may be.
        """
        self._fixed = fixed
        self._most = most
        self._names: dict[str, None] = {}
        self._batches: list[pa.RecordBatch] = []
        self._rows: list[tuple[Sequence[Scalar | None], Mapping[str, Scalar]]] = []
        self._bytes = 0

    def add(self, fixed: Sequence[Scalar | None], others: Mapping[str, Scalar] = {}) -> int:
        """Add a row; how many of its values were dropped, as there are too many columns."""
        kept = {}
        self._bytes += sum(size_of(value) for value in fixed if value is not None)
        for name, value in others.items():
            if name in self._names or len(self._names) < self._most:
                self._names[name] = None
                kept[name] = value
                self._bytes += size_of(value)
        self._rows.append((fixed, kept))
        if len(self._rows) >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            self._close_batch()
        return len(others) - len(kept)

    def table(self) -> pa.Table:
        """All rows so far."""
        self._close_batch()
        return joined([pa.Table.from_batches([batch]) for batch in self._batches], self._fixed)

    def _close_batch(self) -> None:
        columns = [
            pa.array(values, kind) for values, kind in zip(self._of_fixed(), self._fixed.types, strict=True)
        ]
        names = dict.fromkeys(name for _, others in self._rows for name in others)
        columns += [_array([others.get(name) for _, others in self._rows]) for name in names]
        self._batches.append(pa.record_batch(columns, names=[*self._fixed.names, *names]))
        self._rows, self._bytes = [], 0

    def _of_fixed(self) -> Sequence[Sequence[Scalar | None]]:
        return list(zip(*(fixed for fixed, _ in self._rows), strict=True)) or [()] * len(self._fixed)


def size_of(value: Scalar) -> int:
    """Bytes of a value in a column."""
    return len(value.encode()) if isinstance(value, str) else 8


def joined(tables: Sequence[pa.Table], fixed: pa.Schema, most: int | None = None) -> pa.Table:
    """Tables one below the other, each column with a type that holds the values of all.

    Args:
        fixed: the columns that all tables have, with their types.
        most: how many others the result may have: the first ones.
    """
    kinds: dict[str, list[pa.DataType]] = {}
    for table in tables:
        for column in table.schema:
            kinds.setdefault(column.name, []).append(column.type)
    others = [name for name in kinds if name not in fixed.names][:most]
    schema = fixed
    for name in others:
        schema = schema.append(pa.field(name, reduce(_wider, kinds[name])))
    return pa.concat_tables([schema.empty_table(), *(_cast(table, schema) for table in tables)])


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[column.name].cast(column.type, safe=False)
        if column.name in table.column_names
        else pa.nulls(table.num_rows, column.type)
        for column in schema
    ]
    return pa.table(columns, schema)


def _array(values: Sequence[Scalar | None]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    small = all(abs(v) < _MOST_INTEGER for v in values if isinstance(v, int))
    if small and kinds == {int}:
        return pa.array(values, pa.int64())
    if small and kinds in ({float}, {int, float}):
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array([None if v is None else _text(v) for v in values], pa.string())


def _text(value: Scalar) -> str:
    """As Arrow writes it when it casts a column."""
    return value if isinstance(value, str) else json.dumps(value).removesuffix(".0")


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The narrowest type that holds the values of both."""
    if one == other:
        return one
    return pa.float64() if {one, other} == {pa.int64(), pa.float64()} else pa.string()
